//! The examples of the OpenAPI document are taken from this run: one call of every operation.
//!
//! `MUSTER_WRITE_DOCS=1` writes them; `make openapi` then puts them into the document. Otherwise the run
//! checks that what the server accepts and answers now, and the committed examples, have the documented
//! shapes.

use std::collections::{BTreeMap, BTreeSet};

use muster_protocol::identity::AgentKeyPair;
use muster_protocol::library::{STATEMENT_FORMAT, ScriptSignature, SignedScript};
use muster_protocol::package::SignedPackage;
use muster_protocol::release::Platform;
use muster_tests::{
    Agent, AgentOptions, Authenticator, Database, FakeAgent, Fixture, IdentityProvider,
    JsonFields as _, Publisher, Reaction, Script, TestDir, WebhookSink, eventually,
    eventually_shown, file, key_pair_of, repository, tar_zst, totp_code,
};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::example_checks::check;
use super::{sign_on_examples, stream_examples};

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
    let options = sign_on_examples::options(&provider, &test_dir.folder("sso"))
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

    report_facts(&fixture, &agent, &id).await;
    keys(&mut run).await;
    agents(&mut run, &id).await;
    jobs(&mut run, &id).await;
    schedules(&mut run).await;
    library(&mut run).await;
    hooks(&mut run).await;
    integrations(&mut run, &id).await;
    stream_examples::live(&mut run, &id).await;
    stream_examples::metrics(&mut run).await;
    stream_examples::exchange(&mut run).await;
    agent.stop();
    let key_id = fixture.api.get(&format!("/api/agents/{id}")).await.expect(200);
    fixture.with_status(key_id.text("key_id"), "offline").await;
    unfinished(&mut run, &id).await;
    adoption(&mut run).await;
    releases(&mut run).await;
    basic_agent(&mut run).await;
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
    approvals(&mut run).await;
    people(&mut run).await;
    accounts(&mut run, &provider).await;

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

async fn keys(run: &mut Recorder<'_>) {
    let body = json!({"name": "web servers", "permissions": ["ping", "execute"],
        "tags": ["web"], "max_agents": 20});
    let key = run.post("/api/agents/keys", body).await.id().to_owned();
    run.get("/api/agents/keys").await;
    let path = format!("/api/agents/keys/{{id={key}}}");
    run.get(&path).await;
    run.call(Method::PATCH, &path, Some(json!({"max_agents": 50}))).await;
    run.post(&format!("{path}/regenerate"), json!({"grace_ms": 86_400_000})).await;
    run.call(Method::DELETE, &path, None).await;
    let body = json!({"name": "deployments", "scopes": ["agents:read", "commands:run"]});
    let key = run.post("/api/keys", body).await.id().to_owned();
    run.get("/api/keys").await;
    let path = format!("/api/keys/{{id={key}}}");
    run.get(&path).await;
    let limits = json!({"target": "tag:web", "scripts": ["deploy"], "max_fan_out": 10});
    run.call(Method::PATCH, &path, Some(limits)).await;
    run.post(&format!("{path}/rotate"), json!({"grace_ms": 86_400_000})).await;
    run.call(Method::DELETE, &format!("{path}/previous-secret"), None).await;
    run.call(Method::DELETE, &path, None).await;
    run.get("/api/storage").await;
    run.get("/api/tenant").await;
    run.call(Method::PATCH, "/api/tenant", Some(json!({"name": "Example Ltd"}))).await;
    let tenant = json!({"name": "Another Ltd", "plan": "starter"});
    let tenant = run.post("/api/tenants", tenant).await.id().to_owned();
    run.get("/api/tenants").await;
    let path = format!("/api/tenants/{{id={tenant}}}");
    run.get(&path).await;
    run.call(Method::PATCH, &path, Some(json!({"plan": "pro"}))).await;
    run.call(Method::DELETE, &path, Some(json!({"name": "Another Ltd"}))).await;
    run.post(&format!("{path}/restore"), json!({})).await;
}

/// A host that was installed again has another key pair.
async fn adoption(run: &mut Recorder<'_>) {
    let (key_id, key) = run.fixture.api.agent_key(json!({})).await;
    let claims = json!({"key_seed": "before", "machine_id": "a".repeat(64),
        "ledger_id": uuid::Uuid::from_u128(1)});
    let address = run.fixture.server.address();
    let (former, registered) = FakeAgent::registered_full(&address, &key, claims).await;
    drop(former);
    run.fixture.with_status(&key_id, "offline").await;
    let fingerprint = key_pair_of("after").public_key().fingerprint().to_string();
    let id = registered.text("agent_id");
    let path = format!("/api/agents/{{id={id}}}/adopt");
    run.post(&path, json!({"fingerprint": fingerprint})).await;
    run.fixture.api.delete(&format!("/api/agents/{id}")).await.expect(204);
}

/// Facts that say nothing about the machine of the tests.
async fn report_facts(fixture: &Fixture, agent: &Agent, id: &str) {
    let built_in = [
        "addresses",
        "architecture",
        "boot_time",
        "container",
        "cpus",
        "disks",
        "distribution",
        "distribution_like",
        "distribution_version",
        "kernel",
        "memory_bytes",
        "init_system",
        "virtualization",
    ];
    let file = json!({"role": "web", "app": {"version": "1.2", "ports": [80, 443]}});
    std::fs::write(agent.state_dir().join("facts.d/app.json"), file.to_string()).expect("written");
    agent.write_policy(&json!({"withheld_facts": built_in}).to_string());
    let path = format!("/api/agents/{id}/facts");
    let expected = json!({"role": "web", "app.version": "1.2", "app.ports": ["80", "443"]});
    eventually_shown("the facts are reported", async || {
        let known = fixture.api.get(&path).await.expect(200);
        if known["facts"] == expected { Ok(()) } else { Err(known) }
    })
    .await;
}

async fn agents(run: &mut Recorder<'_>, id: &str) {
    let path = format!("/api/agents/{{id={id}}}");
    let change = json!({"name": "web-1", "tags": ["web", "stage:production"]});
    let agent = run.call(Method::PATCH, &path, Some(change)).await;
    run.get("/api/agents").await;
    run.get("/api/agents/connected?name=web-1&wait_ms=1000").await;
    run.get("/api/agents/resolve?name=web-1").await;
    run.get(&path).await;
    run.get("/api/facts").await;
    for part in ["scripts", "facts", "metrics", "events"] {
        run.get(&format!("{path}/{part}")).await;
    }
    run.post(&format!("{path}/ping"), json!({"wait_ms": 5_000})).await;
    let echo = json!({"command": "echo", "data": {"message": "hello"}});
    run.post(&format!("{path}/command"), echo.clone()).await;
    let path = format!("/api/agents/keys/{{id={}}}", agent.text("key_id"));
    run.post(&format!("{path}/ping"), json!({"wait_ms": 5_000})).await;
    run.post(&format!("{path}/command"), echo).await;
    run.post("/api/targets/preview", json!({"expression": "tag:web & os:linux"})).await;
}

async fn jobs(run: &mut Recorder<'_>, id: &str) {
    let url = "https://hooks.invalid/muster";
    let body = json!({"script": "deploy", "target": {"ids": [id]}, "webhook": {"url": url}});
    run.post("/api/jobs/preview", body.clone()).await;
    let job = run.post("/api/jobs", body).await.id().to_owned();
    let path = format!("/api/jobs/{{id={job}}}");
    let page = run.get(&format!("{path}/executions")).await;
    let execution = page["items"][0].id().to_owned();
    let execution = format!("/api/executions/{{id={execution}}}");
    run.get(&format!("{execution}?wait_ms=60000")).await;
    run.get("/api/executions?state=failed&state=lost").await;
    run.get(&format!("{execution}/output")).await;
    run.get(&format!("{execution}/output/live?follow=false")).await;
    run.get(&format!("{execution}/output/search?q=deployed")).await;
    run.get(&format!("{execution}/output/times")).await;
    let command = execution.replace("executions", "commands");
    run.get(&format!("{command}?wait_ms=60000")).await;
    run.get(&format!("{command}/output")).await;
    run.get("/api/commands").await;
    run.get(&path).await;
    run.get("/api/jobs").await;
    run.post(&format!("{path}/retry"), json!({"executions": "failed"})).await;
    run.get("/api/certificates").await;
    let request = "-----BEGIN CERTIFICATE REQUEST-----\n…\n-----END CERTIFICATE REQUEST-----\n";
    run.post("/api/certificates", json!({ "request": request })).await;
    run.get("/api/certificates/status").await;
    run.get("/api/certificates/rollover").await;
    run.post("/api/certificates/rollover", json!({"action": "announce"})).await;
    let certificate = format!("/api/certificates/{{id={}}}", uuid::Uuid::now_v7());
    run.call(Method::DELETE, &certificate, None).await;
    run.post("/api/webhooks/secret", json!({"url": url})).await;
    let delivery = eventually("the webhook is stored", async || {
        let page = run.fixture.api.get("/api/webhooks/deliveries").await.expect(200);
        page["items"][0]["id"].as_str().map(str::to_owned)
    })
    .await;
    run.get("/api/webhooks/deliveries").await;
    let delivery = format!("/api/webhooks/deliveries/{{id={delivery}}}");
    run.get(&delivery).await;
    run.post(&format!("{delivery}/resend"), json!({})).await;
    run.post("/api/webhooks/secret/rotate", json!({})).await;
}

/// What is sent to an agent that is offline stays open, and can be ended.
async fn unfinished(run: &mut Recorder<'_>, id: &str) {
    let body = json!({"script": "deploy", "target": {"ids": [id]}, "rollout":
        {"wave_size": "25%", "max_failures": 0, "pause_ms": 60_000}});
    let job = run.fixture.api.post("/api/jobs", body.clone()).await.expect(202).id().to_owned();
    for action in ["pause", "resume", "abort"] {
        run.post(&format!("/api/jobs/{{id={job}}}/{action}"), json!({})).await;
    }
    let job = run.fixture.api.post("/api/jobs", body.clone()).await.expect(202).id().to_owned();
    run.post(&format!("/api/jobs/{{id={job}}}/cancel"), json!({})).await;
    let ended = run.fixture.api.execute(id, "deploy", json!({})).await;
    run.post(&format!("/api/commands/{{id={ended}}}/cancel"), json!({})).await;
    run.post(&format!("/api/commands/{{id={ended}}}/retry"), json!({})).await;
    let command = run.fixture.api.execute(id, "deploy", json!({})).await;
    run.post(&format!("/api/executions/{{id={command}}}/cancel"), json!({})).await;
}

async fn schedules(run: &mut Recorder<'_>) {
    let rule = json!({"cron": "0 9 * * MON-FRI", "time_zone": "Europe/Berlin"});
    let body = json!({"name": "reports", "rule": rule, "overlap": "queue",
        "job": {"script": "deploy", "target": {"expression": "all"}}});
    let schedule = run.post("/api/schedules", body).await.id().to_owned();
    let path = format!("/api/schedules/{{id={schedule}}}");
    run.get("/api/schedules").await;
    run.get(&path).await;
    run.call(Method::PATCH, &path, Some(json!({"missed": "all", "max_catch_up": 3}))).await;
    run.post(&format!("{path}/run"), json!({})).await;
    run.get(&format!("{path}/fires")).await;
    run.get(&format!("{path}/trigger-states")).await;
    run.get(&format!("{path}/preview?count=2")).await;
    run.post("/api/schedules/preview", json!({"rule": rule, "count": 2})).await;
    for action in ["disable", "enable"] {
        run.post(&format!("{path}/{action}"), json!({})).await;
    }
    alerts(run).await;
    calendars(run, &schedule).await;
    run.call(Method::DELETE, &path, None).await;
}

async fn alerts(run: &mut Recorder<'_>) {
    let body = json!({"name": "disk", "metric": "disk_percent", "threshold": 90,
        "clear_threshold": 85, "for_ms": 600_000, "target": {"expression": "tag:web"}});
    let id = run.post("/api/alerts/rules", body).await.id().to_owned();
    let path = format!("/api/alerts/rules/{{id={id}}}");
    run.get("/api/alerts").await;
    run.get("/api/alerts/rules").await;
    run.get(&path).await;
    run.call(Method::PATCH, &path, Some(json!({"clear_for_ms": 60_000}))).await;
    run.post(&format!("{path}/silence"), json!({})).await;
    run.call(Method::DELETE, &path, None).await;
}

async fn calendars(run: &mut Recorder<'_>, schedule: &str) {
    let weekly = json!({"days": ["sat", "sun"], "from": "22:00", "until": "04:00"});
    let body = json!({"name": "nights", "time_zone": "Europe/Berlin", "schedule_ids": [schedule],
        "entries": [{"kind": "window", "weekly": weekly},
            {"kind": "exclusion", "dates": ["2026-12-25"], "note": "Christmas"}]});
    let id = run.post("/api/calendars", body).await.id().to_owned();
    let path = format!("/api/calendars/{{id={id}}}");
    run.get("/api/calendars").await;
    run.get(&path).await;
    run.call(Method::PATCH, &path, Some(json!({"name": "weekends"}))).await;
    let schedule = format!("/api/schedules/{{id={schedule}}}/snooze");
    run.post(&schedule, json!({"until": "2099-01-01T00:00:00Z"})).await;
    let span = json!({"from": "2026-10-01T00:00:00Z", "for_ms": 30 * 86_400_000_u64});
    run.post("/api/schedules/simulate", span).await;
    run.call(Method::DELETE, &path, None).await;
}

async fn hooks(run: &mut Recorder<'_>) {
    let body = json!({"name": "deploys", "authentication": "bearer",
        "parameters": {"VERSION": "/release/tag"}, "conditions": {"/action": "published"},
        "job": {"script": "deploy", "target": {"expression": "all"}}});
    let hook = run.post("/api/hooks", body).await;
    let (id, secret) = (hook.id().to_owned(), hook.text("secret").to_owned());
    let path = format!("/api/hooks/{{id={id}}}");
    run.get("/api/hooks").await;
    run.get(&path).await;
    run.call(Method::PATCH, &path, Some(json!({"name": "releases"}))).await;
    let sent = json!({"action": "published", "release": {"tag": "1.4.0"}});
    run.post(&format!("{path}/test"), json!({"body": sent, "dry_run": true})).await;
    let delivered = format!("/hooks/{{id={id}}}");
    run.call_with(&secret, Method::POST, &delivered, Some(sent)).await;
    run.get(&format!("{path}/deliveries")).await;
    run.post(&format!("{path}/rotate"), json!({})).await;
    run.call(Method::DELETE, &path, None).await;
}

async fn integrations(run: &mut Recorder<'_>, agent: &str) {
    let receiver = WebhookSink::start([Reaction::status(400)]).await;
    let body = json!({"kind": "webhook", "name": "receiver", "settings": {"url": receiver.url()},
        "event_types": ["job.failed"]});
    let refused = run.fixture.api.post("/api/integrations", body).await.expect(201).id().to_owned();
    let job = json!({"script": "deploy", "target": {"ids": [agent]}});
    run.fixture.api.post("/api/jobs", job).await.expect(202);
    let path = format!("/api/integrations/{refused}/deliveries");
    let dead = eventually("a delivery has failed", async || {
        let page = run.fixture.api.get(&format!("{path}?state=failed")).await.expect(200);
        page["items"][0]["id"].as_str().map(str::to_owned)
    })
    .await;
    let path = format!("/api/integrations/{{id={refused}}}/deliveries");
    run.get(&path).await;
    run.post(&format!("{path}/{{delivery_id={dead}}}/resend"), json!({})).await;
    run.fixture.api.delete(&format!("/api/integrations/{refused}")).await.expect(204);
    let body = json!({"kind": "slack", "name": "operations", "target": {"expression": "tag:web"},
        "settings": {"url": "https://hooks.invalid/services/T/B/X"},
        "event_types": ["agent.offline", "agent.online", "job.failed"]});
    let integration = run.post("/api/integrations", body).await.id().to_owned();
    let path = format!("/api/integrations/{{id={integration}}}");
    run.get("/api/integrations").await;
    run.get(&path).await;
    run.call(Method::PATCH, &path, Some(json!({"offline_after_ms": 300_000}))).await;
    run.post(&format!("{path}/test"), json!({})).await;
    run.call(Method::DELETE, &path, None).await;
}

/// Archives are no JSON, and have no example.
async fn packages(run: &mut Recorder<'_>) {
    let description = "name = \"backup\"\nversion = \"1.2.0\"\nkind = \"job\"\nexecutor = \"sh\"\nentry = \"bin/run.sh\"\n";
    let archive = tar_zst(&[file("muster.toml", description), file("bin/run.sh", "true\n")]);
    let uploaded = run.fixture.api.upload("/api/packages", archive).await.expect(201);
    let example =
        json!({"status": "201", "content_type": "application/json", "response": uploaded});
    run.examples.insert("upload_package".into(), example);
    for name in ["download_package", "download_package_archive"] {
        run.examples.insert(name.into(), json!({"status": "200", "content_type": ""}));
    }
    let path = format!("/api/packages/{{id={}}}", uploaded.id());
    run.get("/api/packages").await;
    run.get(&path).await;
    let pair = AgentKeyPair::from_seed(&[7; 32]).expect("a seed");
    let signed = SignedPackage {
        format: STATEMENT_FORMAT,
        publisher: pair.public_key(),
        name: "backup".into(),
        version: "1.2.0".into(),
        document_sha256: muster_tests::sha256(uploaded.text("document").as_bytes()),
        rank: 1_767_225_600_000,
        minimum_rank: 1_767_225_600_000,
        expires_at_ms: 4_000_000_000_000,
    };
    let signature = json!(ScriptSignature::sign(&signed, &pair));
    run.post(&format!("{path}/signatures"), signature).await;
    run.call(Method::DELETE, &path, None).await;
    files(run).await;
    assignments(run).await;
}

/// Bytes are no JSON, and have no example.
async fn files(run: &mut Recorder<'_>) {
    let sha256 = muster_tests::sha256(b"retries = 3\n");
    let body = json!({"name": "app.conf", "sha256": sha256, "bytes": 12});
    let id = run.post("/api/files", body).await.id().to_owned();
    let path = format!("/api/files/{{id={id}}}");
    run.get("/api/files").await;
    run.get(&path).await;
    let content = format!("/api/files/{id}/content?offset_bytes=0");
    let headers = [("content-type", "application/octet-stream")];
    let sent =
        run.fixture.api.try_send(Method::PUT, &content, &headers, Some(b"retries = 3\n".to_vec()));
    let sent = sent.await.expect("reach the server").expect(200);
    let example = json!({"status": "200", "content_type": "application/json", "response": sent});
    run.examples.insert("send_file".into(), example);
    let example = json!({"status": "200", "content_type": ""});
    run.examples.insert("download_pushed_file".into(), example);
    run.call(Method::DELETE, &path, None).await;
}

async fn assignments(run: &mut Recorder<'_>) {
    let description = "name = \"report\"\nversion = \"1.0.0\"\nkind = \"task\"\nexecutor = \"sh\"\n\
        entry = \"run.sh\"\n[schedule]\ncron = \"0 3 * * *\"\ntime_zone = \"Europe/Berlin\"\n";
    let archive = tar_zst(&[file("muster.toml", description), file("run.sh", "true\n")]);
    let package = run.fixture.api.upload("/api/packages", archive).await.expect(201);
    let later = description.replace("1.0.0", "1.1.0");
    let archive = tar_zst(&[file("muster.toml", &later), file("run.sh", "true\n")]);
    let later = run.fixture.api.upload("/api/packages", archive).await.expect(201);
    let body = json!({"name": "nightly-report", "package": "package:report@1.0.0",
        "target": {"expression": "all"}});
    let id = run.post("/api/assignments", body).await.id().to_owned();
    let path = format!("/api/assignments/{{id={id}}}");
    run.get("/api/assignments").await;
    run.get(&path).await;
    run.get(&format!("{path}/agents")).await;
    // No agent has the tag, so that no wave starts and the rollout stays under way.
    let rollout = json!({"target": {"tags": ["reports"]}, "package": "package:report@1.1.0",
        "rollout": {"wave_size": "25%", "max_failures": 0, "healthy_for_ms": 60_000}});
    run.call(Method::PATCH, &path, Some(rollout.clone())).await;
    run.post(&format!("{path}/rollout/resume"), json!({})).await;
    run.post(&format!("{path}/rollout/abort"), json!({})).await;
    run.fixture.api.patch(&format!("/api/assignments/{id}"), rollout).await.expect(200);
    run.post(&format!("{path}/rollout/finish"), json!({})).await;
    run.call(Method::DELETE, &path, None).await;
    for package in [package, later] {
        run.fixture.api.delete(&format!("/api/packages/{}", package.id())).await.expect(204);
    }
    services(run).await;
}

async fn services(run: &mut Recorder<'_>) {
    let description = "name = \"proxy\"\nversion = \"1.2.0\"\nkind = \"service\"\nexecutor = \"sh\"\n\
        entry = \"run.sh\"\n";
    let archive = tar_zst(&[file("muster.toml", description), file("run.sh", "sleep 60\n")]);
    let package = run.fixture.api.upload("/api/packages", archive).await.expect(201);
    let body = json!({"name": "proxy", "package": "package:proxy",
        "target": {"expression": "all"}});
    let id = run.fixture.api.post("/api/assignments", body).await.expect(201).id().to_owned();
    run.get("/api/services").await;
    for action in ["stop", "start", "restart"] {
        run.post(&format!("/api/services/{{id={id}}}/{action}"), json!({})).await;
    }
    run.fixture.api.delete(&format!("/api/assignments/{id}")).await.expect(204);
    run.fixture.api.delete(&format!("/api/packages/{}", package.id())).await.expect(204);
}

async fn library(run: &mut Recorder<'_>) {
    let body = json!({"name": "disk-report", "folder": "ops", "tags": ["disk"], "body": "df -h\n",
        "interpreter": "sh", "description": "Shows how full the disks are",
        "parameters": [{"name": "THRESHOLD", "type": "integer", "default": "90"}]});
    let script = run.post("/api/scripts", body).await.id().to_owned();
    let path = format!("/api/scripts/{{id={script}}}");
    let versions = format!("{path}/versions");
    let body = json!({"body": "df -h | sort\n", "interpreter": "sh", "message": "sort"});
    run.post(&versions, body).await;
    run.get("/api/scripts").await;
    run.get("/api/scripts/starter").await;
    run.get(&path).await;
    run.get(&versions).await;
    run.get(&format!("{path}/diff?from=1&to=2")).await;
    let version = format!("{versions}/{{version=2}}");
    let shown = run.get(&version).await;
    let pair = AgentKeyPair::from_seed(&[7; 32]).expect("a seed");
    let signed = SignedScript {
        format: STATEMENT_FORMAT,
        publisher: pair.public_key(),
        name: "disk-report".into(),
        version: 2,
        document_sha256: shown.text("document_sha256").into(),
        minimum_version: 2,
        expires_at_ms: 4_000_000_000_000,
    };
    let signature = json!(ScriptSignature::sign(&signed, &pair));
    run.post(&format!("{version}/signatures"), signature).await;
    run.call(Method::PATCH, &path, Some(json!({"current_version": 1}))).await;
    packages(run).await;
    run.call(Method::DELETE, &path, None).await;
}

async fn releases(run: &mut Recorder<'_>) {
    let publisher = Publisher::new(run.fixture).await;
    let folder = publisher.make("0.2.0", "0.1.0").await;
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect("read");
    let draft = json!({"manifest": read("release.json"), "signature": read("release.sig")});
    run.post("/api/releases", draft).await;
    let platform = Platform::own().expect("a platform with releases").to_string();
    let api = &run.fixture.api;
    for program in ["muster-agent", "muster-supervisor"] {
        let path = format!("/api/releases/0.2.0/{platform}/{program}");
        let bytes = std::fs::read(folder.join(&platform).join(program)).expect("read a program");
        api.try_send(Method::PUT, &path, &[], Some(bytes)).await.expect("reached").expect(204);
    }
    run.examples.insert("upload_program".into(), json!({"status": "204", "content_type": ""}));
    let path = "/api/releases/{version=0.2.0}";
    run.post(&format!("{path}/publish"), json!({})).await;
    run.get("/api/releases").await;
    run.get(path).await;
    let group = json!({"name": "web", "target": {"tags": ["web"]}, "desired_version": "0.2.0",
        "wave_size": "10%", "max_failures": 1, "healthy_for_ms": 60_000});
    let group = run.post("/api/groups", group).await.id().to_owned();
    let group = format!("/api/groups/{{id={group}}}");
    run.get("/api/groups").await;
    run.get(&group).await;
    run.call(Method::PATCH, &group, Some(json!({"wave_size": 5}))).await;
    for action in ["pause", "resume"] {
        run.post(&format!("{group}/{action}"), json!({})).await;
    }
    run.call(Method::DELETE, &group, None).await;
    let (_, key) = run.fixture.api.agent_key(json!({})).await;
    let path = format!("/api/agents/desired-release?platform={platform}");
    run.call_with(&key, Method::GET, &path, None).await;
    run.post(&format!("{path}/withdraw", path = "/api/releases/{version=0.2.0}"), json!({})).await;
    publisher.make_key("next").await;
    let (old, new) = (publisher.key("key"), publisher.key("next"));
    let paths = [old, new].map(|path| path.to_str().expect("plain text").to_owned());
    let out = folder.join("change.json");
    let out = out.to_str().expect("plain text");
    let args = ["release", "rotate-key", "--key", &paths[0], "--new", &paths[1], "--out", out];
    publisher.cli.run(&args).await.expect(0);
    let change = std::fs::read(out).expect("read the statement");
    let change = serde_json::from_slice(&change).expect("JSON");
    run.post("/api/releases/key-changes", change).await;
}

/// A basic agent over HTTP.
async fn basic_agent(run: &mut Recorder<'_>) {
    let permissions = json!({"permissions": muster_tests::ALL});
    let (key_id, key) = run.fixture.api.agent_key(permissions).await;
    let beat = json!({"status": {"cpu_percent": 12.5}, "data": {"hostname": "old-1",
        "ip": "192.0.2.7", "version": "1.0", "os": "linux", "capabilities": ["ping"]}});
    run.call_with(&key, Method::POST, "/api/agents/heartbeat", Some(beat)).await;
    let agent = run.fixture.online(&key_id).await.id().to_owned();
    let command =
        json!({"command": "execute", "data": {"script": "deploy"}, "on_mismatch": "send"});
    let path = format!("/api/agents/{agent}/command");
    run.fixture.api.post(&path, command).await.expect(202);
    let polled = run.call_with(&key, Method::GET, "/api/agents/poll?wait_ms=30000", None).await;
    let id = polled["commands"][0].text("command_id").to_owned();
    let result = json!({"command_id": id, "result": {"success": true, "data": {}}});
    run.call_with(&key, Method::POST, "/api/agents/result", Some(result)).await;
}

/// Requests for approval, on the basic agent. A key of another person decides: of the member that was
/// set up, as if it had been invited.
async fn approvals(run: &mut Recorder<'_>) {
    let rule = json!({"name": "production", "target": "tag:production", "scripts": ["deploy"],
        "fan_out_above": 10, "wait_ms": 3_600_000});
    let rule = run.post("/api/approvals/rules", rule).await.id().to_owned();
    run.get("/api/approvals/rules").await;
    run.call(Method::DELETE, &format!("/api/approvals/rules/{{id={rule}}}"), None).await;
    let api = &run.fixture.api;
    api.post("/api/approvals/rules", json!({"name": "every script"})).await.expect(201);
    let key = json!({"name": "grace", "role": "owner"});
    let key = api.post("/api/keys", key).await.expect(201).text("key").to_owned();
    for statement in [
        "UPDATE api_keys SET created_by = (SELECT id FROM members) WHERE name = 'grace'",
        "UPDATE api_key_secrets SET made_by = (SELECT id FROM members) \
         WHERE key_id = (SELECT id FROM api_keys WHERE name = 'grace')",
        "UPDATE members SET is_from_setup = (1 = 0)",
    ] {
        run.fixture.server.query(statement);
    }
    let agents = api.get("/api/agents").await.expect(200);
    let body = json!({"script": "deploy", "target": {"ids": [agents["items"][0]["id"]]}});
    for verb in ["approve", "refuse"] {
        api.post("/api/jobs", body.clone()).await.expect(202);
        let page = run.get("/api/approvals?state=pending").await;
        let path = format!("/api/approvals/{{id={}}}", page["items"][0].id());
        run.get(&path).await;
        let reason = json!({"reason": "checked with the team"});
        run.call_with(&key, Method::POST, &format!("{path}/{verb}"), Some(reason)).await;
    }
    run.get("/api/access/explain?operation=run:deploy&target=all").await;
    let steps = json!({"steps": [{"from_agents": 10, "demand": "confirm"},
        {"tag": "critical", "from_agents": 1, "demand": "approve"},
        {"from_agents": 1_000, "demand": "refuse"}]});
    run.call(Method::PUT, "/api/access/ladder", Some(steps)).await;
    run.get("/api/access/ladder").await;
}

/// People: sign-in, sessions, members and invitations.
async fn people(run: &mut Recorder<'_>) {
    let password = "correct horse battery staple";
    let login = json!({"email": "ada@example.com", "password": password});
    let signed = run.call_with("", Method::POST, "/api/auth/login", Some(login)).await;
    let refresh = json!({"refresh_token": signed.text("refresh_token")});
    let next = run.call_with("", Method::POST, "/api/auth/refresh", Some(refresh)).await;
    let key = next.text("access_token").to_owned();
    for path in ["/api/me", "/api/me/sessions", "/api/members"] {
        run.call_with(&key, Method::GET, path, None).await;
    }
    let confirm = json!({"password": password});
    run.call_with(&key, Method::POST, "/api/auth/confirm", Some(confirm)).await;
    stream_examples::export(run, &run.fixture.api.with_key(&key)).await;
    device_logins(run, &key).await;
    let body = json!({"email": "grace@example.com", "role": "member"});
    let made = run.call_with(&key, Method::POST, "/api/invitations", Some(body.clone())).await;
    run.call_with(&key, Method::GET, "/api/invitations", None).await;
    let account = json!({"name": "Grace", "password": password});
    let path = "/api/invitations/accept";
    let member = run.call_with(made.text("token"), Method::POST, path, Some(account)).await;
    let made = run.call_with(&key, Method::POST, "/api/invitations", Some(body)).await;
    let path = format!("/api/invitations/{{id={}}}", made.id());
    run.call_with(&key, Method::DELETE, &path, None).await;
    let path = format!("/api/members/{{id={}}}", member.id());
    run.call_with(&key, Method::PATCH, &path, Some(json!({"role": "admin"}))).await;
    let members = run.fixture.api.with_key(&key).get("/api/members").await.expect(200);
    let path = format!("/api/members/{{id={}}}", members["items"][1].id());
    run.call_with(&key, Method::DELETE, &path, None).await;
    let change = json!({"current_password": password, "new_password": "tired giraffe on a bus"});
    run.call_with(&key, Method::POST, "/api/me/password", Some(change)).await;
    let tenant = json!({"tenant_id": signed["member"].text("tenant_id")});
    let switched = run.call_with(&key, Method::POST, "/api/auth/switch", Some(tenant)).await;
    let key = switched.text("access_token").to_owned();
    let login = json!({"email": "ada@example.com", "password": "tired giraffe on a bus"});
    let other = run.fixture.api.post("/api/auth/login", login).await.expect(200);
    let path = format!("/api/me/sessions/{{id={}}}", other.text("session_id"));
    run.call_with(&key, Method::DELETE, &path, None).await;
    run.call_with(&key, Method::POST, "/api/auth/logout", Some(json!({}))).await;
}

/// Registration, a new password and a new address, with codes that the server prints.
async fn accounts(run: &mut Recorder<'_>, provider: &IdentityProvider) {
    let (email, password) = ("joan@example.com", "correct horse battery staple");
    let body = json!({"email": email, "name": "Joan", "password": password,
        "tenant_name": "Example Ltd"});
    let open = run.call_with("", Method::POST, "/api/auth/register", Some(body)).await;
    let id = open.text("registration_id").to_owned();
    printed(run, email, 1).await;
    let body = json!({"registration_id": id});
    run.call_with("", Method::POST, "/api/auth/register/resend", Some(body)).await;
    let code = printed(run, email, 2).await;
    let body = json!({"registration_id": id, "code": code});
    run.call_with("", Method::POST, "/api/auth/register/verify", Some(body)).await;
    let body = json!({"email": email});
    run.call_with("", Method::POST, "/api/auth/password-reset", Some(body)).await;
    let token = printed(run, email, 3).await;
    let body = json!({"password": "tired giraffe on a bus"});
    let path = "/api/auth/password-reset/complete";
    run.call_with(&token, Method::POST, path, Some(body)).await;
    let login = json!({"email": email, "password": "tired giraffe on a bus"});
    let signed = run.fixture.api.post("/api/auth/login", login).await.expect(200);
    let key = signed.text("access_token");
    second_factor(run, key, email).await;
    passkeys(run, key).await;
    sign_on_examples::identities(run, provider, key).await;
    let body = json!({"email": "joan.clarke@example.com"});
    run.call_with(key, Method::POST, "/api/me/email", Some(body)).await;
    let code = printed(run, "joan.clarke@example.com", 1).await;
    run.call_with(key, Method::POST, "/api/me/email/verify", Some(json!({"code": code}))).await;
    let name = json!({"name": "Example Ltd"});
    run.call_with(key, Method::DELETE, "/api/tenant", Some(name)).await;
    run.call_with(key, Method::POST, "/api/tenant/restore", Some(json!({}))).await;
}

async fn passkeys(run: &mut Recorder<'_>, key: &str) {
    let path = "/api/me/passkeys/challenge";
    let asked = run.call_with(key, Method::POST, path, Some(json!({}))).await;
    let mut device = Authenticator::new(ORIGIN);
    let made = Some(device.make(&asked, "laptop"));
    let added = run.call_with(key, Method::POST, "/api/me/passkeys", made).await;
    run.call_with(key, Method::GET, "/api/me/passkeys", None).await;
    let path = "/api/auth/passkey/challenge";
    let asked = run.call_with("", Method::POST, path, Some(json!({}))).await;
    let signed = json!({"passkey": device.sign(&asked)});
    run.call_with("", Method::POST, "/api/auth/passkey", Some(signed)).await;
    let path = format!("/api/me/passkeys/{{id={}}}", added["passkey"].id());
    let proof = json!({"code": added["recovery_codes"][0]});
    run.call_with(key, Method::DELETE, &path, Some(proof)).await;
}

async fn second_factor(run: &mut Recorder<'_>, key: &str, email: &str) {
    let made = run.call_with(key, Method::POST, "/api/me/totp", Some(json!({}))).await;
    let code = totp_code(made.text("secret"), 0);
    let path = "/api/me/totp/confirm";
    run.call_with(key, Method::POST, path, Some(json!({"code": code}))).await;
    let path = "/api/me/totp/recovery-codes";
    run.fixture.server.query("UPDATE totp_secrets SET last_step = 0");
    let proof = json!({"code": totp_code(made.text("secret"), 0)});
    let codes = run.call_with(key, Method::POST, path, Some(proof)).await;
    let body = json!({"email": email, "password": "tired giraffe on a bus"});
    let waiting = run.call_with("", Method::POST, "/api/auth/login", Some(body)).await;
    let code = totp_code(made.text("secret"), 1);
    let body = json!({"challenge": waiting.text("challenge"), "code": code});
    run.call_with("", Method::POST, "/api/auth/login/code", Some(body)).await;
    run.call_with(key, Method::GET, "/api/me/totp", None).await;
    let proof = json!({"code": codes["recovery_codes"][0]});
    run.call_with(key, Method::DELETE, "/api/me/totp", Some(proof)).await;
}

/// The code or token of a printed mail to an address, counted from 1.
async fn printed(run: &Recorder<'_>, to: &str, count: usize) -> String {
    eventually(&format!("mail {count} to {to} is printed"), async || {
        let log = run.fixture.server.log();
        let mail = log.split(&format!("mail to {to}: ")).nth(count)?.to_owned();
        let mut lines = mail.lines();
        let secret = lines.find_map(|line| line.strip_prefix("    ").map(str::to_owned));
        secret.filter(|secret| !secret.is_empty())
    })
    .await
}

async fn device_logins(run: &mut Recorder<'_>, key: &str) {
    run.call_with("", Method::GET, "/api/auth/oidc/providers", None).await;
    for action in ["approve", "refuse"] {
        let started = run.call_with("", Method::POST, "/api/auth/device", Some(json!({}))).await;
        let code = json!({"user_code": started.text("user_code")});
        let show = Some(code.clone());
        run.call_with(key, Method::POST, "/api/auth/device/show", show).await;
        let path = format!("/api/auth/device/{action}");
        run.call_with(key, Method::POST, &path, Some(code)).await;
        if action == "approve" {
            let body = json!({"device_code": started.text("device_code")});
            run.call_with("", Method::POST, "/api/auth/device/token", Some(body)).await;
        }
    }
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
