//! The examples of the OpenAPI document are taken from this run: one call of every operation.
//!
//! `MUSTER_WRITE_DOCS=1` writes them; `make openapi` then puts them into the document. Otherwise the run
//! checks that what the server accepts and answers now, and the committed examples, have the documented
//! shapes.

mod access;
mod checks;
mod commands;
mod fleet;
mod integrations;
mod library;
mod schedules;
mod sign_on;
mod streams;

use std::collections::{BTreeMap, BTreeSet};

use muster_tests::{
    AgentOptions, Database, Fixture, IdentityProvider, JsonFields as _, Script, TestDir, repository,
};
use reqwest::Method;
use serde_json::{Map, Value, json};

use self::checks::check;

/// Calls operations, and keeps the first answer of each.
pub struct Recorder<'a> {
    pub fixture: &'a Fixture,
    /// Operation ids by method and path.
    names: BTreeMap<(String, String), String>,
    pub examples: Map<String, Value>,
}

impl Recorder<'_> {
    /// One call. `path` is as in the document, with values after `=`: `/api/jobs/{id=…}`.
    async fn call(&mut self, method: Method, path: &str, body: Option<Value>) -> Value {
        let key = self.fixture.api.key().to_owned();
        self.call_with(&key, method, path, body).await
    }

    pub async fn call_with(
        &mut self,
        key: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Value {
        let (template, concrete) = split(path);
        let template = template.split('?').next().unwrap_or_default().to_owned();
        let named = (method.as_str().to_lowercase(), template);
        let name = self.names.get(&named).unwrap_or_else(|| panic!("{named:?}")).clone();
        let api = self.fixture.api.with_key(key);
        let answer = api.send(method, &concrete, body.clone()).await;
        // A refusal is an example too, where the state of the resource does not permit more.
        let is_example = matches!(answer.status, 200..300 | 409);
        assert!(is_example, "{name}: {}", String::from_utf8_lossy(&answer.bytes));
        let kind = answer.header("content-type").split(';').next().unwrap_or_default().to_owned();
        let text = String::from_utf8(answer.bytes).expect("text");
        let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        let mut example = json!({"status": answer.status.to_string(), "content_type": kind});
        if answer.status != 204 {
            example["response"] = value.clone();
        }
        if let Some(body) = body.filter(|body| *body != json!({})) {
            example["request"] = body;
        }
        self.examples.entry(name).or_insert(example);
        value
    }

    async fn get(&mut self, path: &str) -> Value {
        self.call(Method::GET, path, None).await
    }

    async fn post(&mut self, path: &str, body: Value) -> Value {
        self.call(Method::POST, path, Some(body)).await
    }
}

/// The template of a path, and the path itself.
fn split(path: &str) -> (String, String) {
    let (mut template, mut concrete) = (String::new(), String::new());
    for part in path.split_inclusive(['{', '}']) {
        match part.strip_suffix('}').and_then(|inside| inside.split_once('=')) {
            Some((name, value)) => {
                template.push_str(&format!("{{{name}}}"));
                concrete.push_str(value);
            }
            None => {
                let outside = part.trim_end_matches('{');
                template.push_str(outside);
                concrete.push_str(outside);
            }
        }
    }
    (template, concrete)
}

/// Operation ids by method and path.
fn names(document: &Value) -> BTreeMap<(String, String), String> {
    let mut names = BTreeMap::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let name = operation["operationId"].as_str().expect("an id").to_owned();
            names.insert((method.clone(), path.clone()), name);
        }
    }
    names
}

/// Where people reach the server of the examples.
const ORIGIN: &str = "https://muster.example";

#[tokio::test]
async fn examples_are_taken_from_a_run_and_have_the_documented_shapes() {
    let test_dir = TestDir::new();
    let provider = IdentityProvider::start().await;
    let options = sign_on::options(&provider, &test_dir.folder("sso"))
        .with("MUSTER_REGISTRATION", "open")
        .with("MUSTER_PUBLIC_URL", ORIGIN)
        .with("MUSTER_DEMO_PRINT_CODES", "true")
        .with("MUSTER_ALLOW_PRIVATE_WEBHOOKS", true);
    let fixture = Fixture::on(test_dir, Database::Sqlite, options).await;
    let document = fixture.api.get("/openapi.json").await.expect(200);
    let names = names(&document);
    let mut run = Recorder { fixture: &fixture, names, examples: Map::new() };
    let scripts = [Script::new("deploy", "echo deployed; exit 3")];
    let (mut agent, id) = fixture.agent(AgentOptions::with_scripts(scripts)).await;

    fleet::report_facts(&fixture, &agent, &id).await;
    fleet::keys(&mut run).await;
    fleet::agents(&mut run, &id).await;
    commands::jobs(&mut run, &id).await;
    schedules::schedules(&mut run).await;
    library::library(&mut run).await;
    schedules::hooks(&mut run).await;
    integrations::integrations(&mut run, &id).await;
    streams::live(&mut run, &id).await;
    streams::metrics(&mut run).await;
    streams::exchange(&mut run).await;
    agent.stop();
    let key_id = fixture.api.get(&format!("/api/agents/{id}")).await.expect(200);
    fixture.with_status(key_id.text("key_id"), "offline").await;
    commands::unfinished(&mut run, &id).await;
    fleet::adoption(&mut run).await;
    fleet::releases(&mut run).await;
    fleet::basic_agent(&mut run).await;
    run.call(Method::DELETE, &format!("/api/agents/{{id={id}}}"), None).await;
    for path in ["/healthz", "/readyz", "/api/audit", "/api/audit/head", "/api/audit/verify"] {
        run.get(path).await;
    }
    run.get("/api/audit/export?action=agent.delete").await;
    let file = fixture.server.data_dir().join("setup_token");
    let token = std::fs::read_to_string(file).expect("the token");
    let owner = json!({"email": "ada@example.com", "name": "Ada",
        "password": "correct horse battery staple"});
    run.call_with(token.trim(), Method::POST, "/api/setup", Some(owner)).await;
    commands::approvals(&mut run).await;
    access::people(&mut run).await;
    access::accounts(&mut run, &provider).await;

    let examples = stable(&Value::Object(run.examples));
    let missing: BTreeSet<&str> = run
        .names
        .values()
        .map(String::as_str)
        .filter(|name| examples.get(name).is_none())
        .collect();
    assert_eq!(missing, BTreeSet::new());
    check(&fixture, &document, &examples);
    let file = repository().join("server/src/http/openapi/examples.json");
    if std::env::var_os("MUSTER_WRITE_DOCS").is_some() {
        std::fs::write(&file, format!("{examples:#}\n")).expect("write the examples");
    }
    let committed = std::fs::read_to_string(&file).expect("read the examples");
    let committed: Value = serde_json::from_str(&committed).expect("JSON");
    let of = |examples: &Value| -> Vec<String> {
        examples.as_object().into_iter().flat_map(Map::keys).cloned().collect()
    };
    assert_eq!(of(&committed), of(&examples), "write the examples: MUSTER_WRITE_DOCS=1");
    check(&fixture, &document, &committed);
}

/// The same examples in every run: ids, instants, secrets and figures are replaced.
pub fn stable(examples: &Value) -> Value {
    let mut known = BTreeMap::new();
    replaced(examples, &mut known)
}

fn replaced(value: &Value, known: &mut BTreeMap<String, usize>) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), replaced(value, known)))
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(|item| replaced(item, known)).collect(),
        Value::String(text) => Value::String(replaced_text(text, known)),
        value => value.clone(),
    }
}

fn replaced_text(text: &str, known: &mut BTreeMap<String, usize>) -> String {
    let mut rest = text;
    let mut result = String::new();
    while !rest.is_empty() {
        let word_end = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || "-_:.".contains(c)))
            .unwrap_or(rest.len());
        let (word, after) =
            rest.split_at(word_end.max(rest.chars().next().map_or(1, char::len_utf8)));
        rest = after;
        let bare = word.trim_end_matches(['.', ':']);
        let is_instant = bare.len() == 24 && bare.ends_with('Z') && bare.as_bytes()[10] == b'T';
        if uuid::Uuid::try_parse(bare).is_ok() && bare.len() == 36 {
            let next = known.len() + 1;
            let number = *known.entry(bare.to_owned()).or_insert(next);
            result.push_str(&format!("01900000-0000-7000-8000-{number:012}"));
        } else if is_instant {
            result.push_str("2026-01-31T12:00:00.000Z");
        } else if is_user_code(bare) {
            result.push_str("BCDF-GHJK");
        } else if bare.starts_with("127.0.0.1:") {
            result.push_str("127.0.0.1:8080");
        } else if bare.starts_with("eyJ") && bare.contains('.') {
            result.push_str("eyJhbGciOiJFZERTQSJ9.e30.AA");
        } else if let Some(kind) = [
            "mst_live_",
            "mst_agent_",
            "mst_setup_",
            "mst_refresh_",
            "mst_invite_",
            "mst_reset_",
            "mst_device_",
            "whsec_",
        ]
        .iter()
        .find(|kind| bare.starts_with(**kind))
        {
            // Prefixes of keys stay as long as they are.
            result.push_str(&format!("{kind}{}", "0".repeat(bare.len() - kind.len())));
        } else {
            result.push_str(word);
            continue;
        }
        result.push_str(&word[bare.len()..]);
    }
    result
}

/// The code of a device, as `BCDF-GHJK`.
fn is_user_code(word: &str) -> bool {
    let is_letter = |(place, byte): (usize, u8)| match place {
        4 => byte == b'-',
        _ => byte.is_ascii_uppercase(),
    };
    word.len() == 9 && word.bytes().enumerate().all(is_letter)
}
