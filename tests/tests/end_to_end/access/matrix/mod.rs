//! Every operation of the OpenAPI document, called by all kinds of callers that must be refused.
//!
//! The result is docs/ACCESS.md. `MUSTER_WRITE_DOCS=1` writes the file instead of comparing it.

mod operations;
mod people;
mod scopes;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use muster_tests::{Api, FakeAgent, Fixture, ServerOptions, eventually, file, tar_zst};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use self::operations::{Foreign, Needs, Operation, operations};
use self::people::People;
use self::scopes::check_scopes;

const ALL_SCOPES: [&str; 29] = [
    "agents:read",
    "agents:write",
    "agents:manage",
    "agent_keys:read",
    "agent_keys:write",
    "commands:read",
    "commands:run",
    "commands:shell",
    "commands:manage",
    "approvals:decide",
    "approvals:manage",
    "api_keys:read",
    "api_keys:write",
    "audit:read",
    "schedules:read",
    "schedules:write",
    "scripts:read",
    "scripts:write",
    "files:read",
    "files:write",
    "members:read",
    "members:write",
    "webhooks:write",
    "integrations:read",
    "integrations:write",
    "tenant:manage",
    "metrics:read",
    "releases:manage",
    "tenants:manage",
];
const MALFORMED: [&str; 3] = ["mst_live_short", "nonsense", "mst_agent_short"];

/// The ids that stand for `{id}` in a path, by what comes before it.
type Ids = BTreeMap<&'static str, String>;

/// A server with one of everything, and callers of every kind.
struct AccessFixture {
    fixture: Fixture,
    /// Of this tenant.
    ids: Ids,
    other_tenant: Api,
    people: People,
    agent_key: String,
    keys: BTreeMap<String, String>,
    _agent: FakeAgent,
}

/// Sends one request and reads its status, not its body: streams have no end.
async fn status(fixture: &Fixture, key: &str, operation: &Operation, ids: &Ids) -> u16 {
    response(fixture, key, operation, ids).await.status().as_u16()
}

async fn response(
    fixture: &Fixture,
    key: &str,
    operation: &Operation,
    ids: &Ids,
) -> reqwest::Response {
    let client = reqwest::Client::builder().no_proxy().build().expect("make a client");
    let method: Method = operation.method.parse().expect("a method");
    let url = format!("{}{}{}", fixture.server.url(), path(operation, ids), operation.query);
    // From another address each, so that no limit on addresses counts.
    let mut request = client.request(method, url).header("x-forwarded-for", another_address());
    if !key.is_empty() {
        request = request.bearer_auth(key);
    }
    if let Some(body) = &operation.body {
        request = request.header("content-type", "application/json").body(body.to_string());
    }
    let chosen = format!("{}-{}", operation.method, uuid::Uuid::new_v4().simple());
    let response = request.header("x-request-id", &chosen).send().await.expect("reach the server");
    check_envelope(&response, &chosen, &operation.name());
    response
}

/// What every answer has, of every operation and for every caller: the id of its request, and what limits
/// a browser.
fn check_envelope(response: &reqwest::Response, request_id: &str, name: &str) {
    let header = |header: &str| {
        let value = response.headers().get(header).and_then(|value| value.to_str().ok());
        value.unwrap_or_else(|| panic!("{name}: {} without {header}", response.status())).to_owned()
    };
    assert_eq!(header("x-request-id"), request_id, "{name}");
    let policy = header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
    assert!(!policy.contains("unsafe-inline"), "{name}: {policy}");
    assert_eq!(header("x-content-type-options"), "nosniff", "{name}");
    assert_eq!(header("referrer-policy"), "no-referrer", "{name}");
    assert_eq!(header("x-frame-options"), "DENY", "{name}");
}

fn another_address() -> String {
    let bytes = Uuid::new_v4().into_bytes();
    format!("10.{}.{}.{}", bytes[0], bytes[1], bytes[2])
}

fn path(operation: &Operation, ids: &Ids) -> String {
    // Versions of scripts have numbers.
    let template = operation.path.replace("/versions/{version}", "/versions/1");
    let template = template.replace("{version}", "9.9.9").replace("{platform}", "linux-x86_64");
    let template = template.replace("{provider}", "corp");
    let template = template.replace("{program}", "muster-agent").replace("{sha256}", "00");
    let template = template.replace("{delivery_id}", "01980000-0000-7000-8000-000000000000");
    let Some((before, after)) = template.split_once("{id}") else { return template };
    let id = ids.get(before).unwrap_or_else(|| panic!("no id for {before}"));
    format!("{before}{id}{after}")
}

impl AccessFixture {
    async fn new() -> Self {
        let options = ServerOptions::default()
            .with("MUSTER_TRUSTED_PROXY", "127.0.0.1")
            .with("MUSTER_REGISTRATION", "open")
            .with("MUSTER_PUBLIC_URL", "https://muster.example")
            .with("MUSTER_DEMO_PRINT_CODES", "true");
        let fixture = Fixture::with(options).await;
        let other_tenant = fixture.other_tenant().await;
        let fields = json!({"permissions": muster_tests::ALL, "max_agents": 9});
        let (agent_key_id, agent_key) = fixture.api.agent_key(fields).await;
        let mut agent = FakeAgent::registered(&fixture.server.address(), &agent_key, "one").await;
        let agent_id = text(&fixture.online(&agent_key_id).await, "id");
        let job = json!({"script": "deploy", "target": {"ids": [agent_id]},
            "webhook": {"url": "https://hooks.invalid/secret"}});
        let job = text(&fixture.api.post("/api/jobs", job).await.expect(202), "id");
        let command = agent.expect("command").await;
        let id = &command["command_id"];
        agent.send(json!({"type": "response", "command_id": id, "success": true})).await;
        let delivery = eventually("the webhook is stored", async || {
            let page = fixture.api.get("/api/webhooks/deliveries").await.expect(200);
            page["items"][0]["id"].as_str().map(str::to_owned)
        })
        .await;
        let group = json!({"name": "first", "target": {"tags": ["none"]}});
        let group = text(&fixture.api.post("/api/groups", group).await.expect(201), "id");
        let rule = json!({"name": "guarded", "scripts": ["guarded"]});
        let rule = fixture.api.post("/api/approvals/rules", rule).await.expect(201);
        let guarded = json!({"script": "guarded", "target": {"ids": [agent_id]}});
        fixture.api.post("/api/jobs", guarded).await.expect(202);
        let approval = fixture.api.get("/api/approvals").await.expect(200);
        let schedule = json!({"name": "first", "rule": {"cron": "@yearly"},
            "job": {"script": "deploy", "target": {"tags": ["none"]}}});
        let schedule = text(&fixture.api.post("/api/schedules", schedule).await.expect(201), "id");
        let script = json!({"name": "first", "body": "true\n", "interpreter": "sh"});
        let script = text(&fixture.api.post("/api/scripts", script).await.expect(201), "id");
        let description =
            "name = 'first'\nversion = '1'\nkind = 'job'\nexecutor = 'sh'\nentry = 'a'\n";
        let archive = tar_zst(&[file("muster.toml", description), file("a", "true\n")]);
        let package = fixture.api.upload("/api/packages", archive).await.expect(201);
        let package = text(&package, "id");
        let pushed = json!({"name": "first", "sha256": "0".repeat(64), "bytes": 1});
        let pushed = text(&fixture.api.post("/api/files", pushed).await.expect(201), "id");
        let description = "name = 'task'\nversion = '1'\nkind = 'task'\nexecutor = 'sh'\nentry = 'a'\n\
             [schedule]\nevery_ms = 60000\n";
        let archive = tar_zst(&[file("muster.toml", description), file("a", "true\n")]);
        fixture.api.upload("/api/packages", archive).await.expect(201);
        let assignment = json!({"name": "first", "script": "package:task",
            "target": {"tags": ["none"]}});
        let assignment = fixture.api.post("/api/assignments", assignment).await.expect(201);
        let description = "name = 'kept'\nversion = '1'\nkind = 'service'\nexecutor = 'sh'\n\
             entry = 'a'\n";
        let archive = tar_zst(&[file("muster.toml", description), file("a", "true\n")]);
        fixture.api.upload("/api/packages", archive).await.expect(201);
        let service = json!({"name": "kept", "script": "package:kept",
            "target": {"expression": "all"}});
        let service = fixture.api.post("/api/assignments", service).await.expect(201);
        let hook = json!({"name": "first", "authentication": "github",
            "job": {"script": "deploy", "target": {"tags": ["none"]}}});
        let hook = text(&fixture.api.post("/api/hooks", hook).await.expect(201), "id");
        let alert_rule = json!({"name": "first", "metric": "agents_online", "threshold": 1});
        let alert_rule = fixture.api.post("/api/alerts/rules", alert_rule).await.expect(201);
        let calendar = json!({"name": "first", "entries": []});
        let calendar = text(&fixture.api.post("/api/calendars", calendar).await.expect(201), "id");
        let integration = json!({"kind": "slack", "name": "first", "event_types": ["job.failed"],
            "settings": {"url": "https://hooks.invalid/secret"}});
        let integration = fixture.api.post("/api/integrations", integration).await.expect(201);
        let first_key = fixture.api.get("/api/keys").await.expect(200);
        let own_tenant = fixture.api.get("/api/tenant").await.expect(200);
        let command = text(&command, "command_id");
        let (people, invitation) = People::new(&fixture).await;
        // Each one has the id of the person's member.
        fixture.server.query(
            "INSERT INTO identities SELECT m.id, m.user_id, 'https://sso.example', \
             u.email || m.created_at, m.created_at, NULL \
             FROM members m JOIN users u ON u.id = m.user_id",
        );
        let ids = Ids::from([
            ("/api/agents/", agent_id),
            ("/api/agents/keys/", agent_key_id),
            ("/api/commands/", command.clone()),
            ("/api/executions/", command),
            ("/api/jobs/", job),
            ("/api/groups/", group),
            ("/api/approvals/", text(&approval["items"][0], "id")),
            ("/api/approvals/rules/", text(&rule, "id")),
            ("/api/schedules/", schedule),
            ("/api/scripts/", script),
            ("/api/packages/", package),
            ("/api/files/", pushed),
            ("/api/alerts/rules/", text(&alert_rule, "id")),
            ("/api/assignments/", text(&assignment, "id")),
            ("/api/services/", text(&service, "id")),
            ("/api/calendars/", calendar),
            // A server without TLS has none, and answers the same for any id.
            ("/api/certificates/", uuid::Uuid::now_v7().to_string()),
            ("/hooks/", hook.clone()),
            ("/api/hooks/", hook),
            ("/api/integrations/", text(&integration, "id")),
            ("/api/members/", people.owner.member_id.clone()),
            ("/api/me/sessions/", people.owner.session_id.clone()),
            ("/api/me/identities/", people.owner.member_id.clone()),
            ("/api/me/passkeys/", people.owner.member_id.clone()),
            ("/api/invitations/", invitation),
            ("/api/keys/", text(&first_key["items"][0], "id")),
            ("/api/webhooks/deliveries/", delivery),
            ("/api/tenants/", text(&own_tenant, "id")),
        ]);
        let keys = BTreeMap::new();
        Self { fixture, ids, other_tenant, people, agent_key, keys, _agent: agent }
    }

    /// Ids of nothing.
    fn unknown_ids(&self) -> Ids {
        self.ids.keys().map(|before| (*before, Uuid::now_v7().to_string())).collect()
    }

    /// A key with these scopes.
    async fn key(&mut self, scopes: &[&str]) -> String {
        let body = json!({"name": "k", "role": "owner", "scopes": scopes});
        self.made_key(&scopes.join(" "), body).await
    }

    /// A key with the default scopes of a role.
    async fn role(&mut self, role: &str) -> String {
        self.made_key(role, json!({"name": "k", "role": role})).await
    }

    async fn made_key(&mut self, known_as: &str, body: Value) -> String {
        if let Some(key) = self.keys.get(known_as) {
            return key.clone();
        }
        let made = self.fixture.api.post("/api/keys", body).await.expect(201);
        self.keys.insert(known_as.to_owned(), text(&made, "key"));
        text(&made, "key")
    }

    /// The statuses for callers that lack one of the scopes.
    async fn without_scopes(&mut self, operation: &Operation, groups: &[&[&str]]) -> u16 {
        for group in groups {
            let rest: Vec<&str> =
                ALL_SCOPES.into_iter().filter(|scope| !group.contains(scope)).collect();
            let key = self.key(&rest).await;
            let got = status(&self.fixture, &key, operation, &self.ids).await;
            assert_eq!(got, 403, "{} without {group:?}", operation.name());
        }
        // The table must not require more than the server does.
        let first: Vec<&str> = groups.iter().map(|group| group[0]).collect();
        let key = self.key(&first).await;
        let got = status(&self.fixture, &key, operation, &self.unknown_ids()).await;
        assert!(!matches!(got, 401 | 403), "{} with {first:?}: {got}", operation.name());
        403
    }

    /// What callers of another tenant get: a key and a person.
    async fn foreign(&self, operation: &Operation) -> &'static str {
        let person = self.people.stranger.api.key();
        let of_person = self.foreign_with(person, operation).await;
        if matches!(operation.needs, Needs::Scopes(_)) {
            let of_key = self.foreign_with(self.other_tenant.key(), operation).await;
            assert_eq!(of_key, of_person, "{}", operation.name());
        }
        of_person
    }

    async fn foreign_with(&self, key: &str, operation: &Operation) -> &'static str {
        let name = operation.name();
        match operation.foreign {
            Foreign::NotFound => {
                assert_eq!(status(&self.fixture, key, operation, &self.ids).await, 404, "{name}");
                "404"
            }
            Foreign::Hidden => {
                let response = response(&self.fixture, key, operation, &self.ids).await;
                assert_eq!(response.status().as_u16(), 200, "{name}");
                let body = response.text().await.expect("a body");
                for id in self.ids.values() {
                    assert!(!body.contains(id.as_str()), "{name} shows {id} to another tenant");
                }
                "nothing"
            }
            Foreign::Unrelated => "–",
            Foreign::Shared => {
                let got = status(&self.fixture, key, operation, &self.ids).await;
                assert!(matches!(got, 200 | 404), "{name}: {got}");
                "whole server"
            }
            Foreign::Operators => {
                assert_eq!(status(&self.fixture, key, operation, &self.ids).await, 403, "{name}");
                "403"
            }
        }
    }

    /// One row of the matrix.
    async fn row(&mut self, operation: &Operation) -> String {
        let name = operation.name();
        let (mut cells, needs) = match operation.needs {
            Needs::Nothing => {
                let got = status(&self.fixture, "", operation, &self.ids).await;
                assert!((200..300).contains(&got), "{name}: {got}");
                (["yes"; 4].map(str::to_owned).to_vec(), "–".to_owned())
            }
            Needs::AnyKey => {
                let agent_key = self.agent_key.clone();
                for key in ["", &agent_key, MALFORMED[0], MALFORMED[1], MALFORMED[2]] {
                    let got = status(&self.fixture, key, operation, &self.ids).await;
                    assert_eq!(got, 401, "{name} with {key:?}");
                }
                let key = self.key(&[]).await;
                let got = status(&self.fixture, &key, operation, &self.ids).await;
                assert_eq!(got, 200, "{name}");
                (["401", "401", "401", "–"].map(str::to_owned).to_vec(), "any key".to_owned())
            }
            Needs::AgentKey => {
                let owner = self.fixture.api.key().to_owned();
                for key in ["", &owner, MALFORMED[0], MALFORMED[1], MALFORMED[2]] {
                    let got = status(&self.fixture, key, operation, &self.ids).await;
                    assert_eq!(got, 401, "{name} with {key:?}");
                }
                let got = status(&self.fixture, &self.agent_key, operation, &self.ids).await;
                assert!(!matches!(got, 401 | 403), "{name} with an agent key: {got}");
                (["401", "401", "yes", "–"].map(str::to_owned).to_vec(), "agent key".to_owned())
            }
            Needs::Own(secret) => {
                let owner = self.fixture.api.key().to_owned();
                let mut cells = Vec::new();
                for key in ["", MALFORMED[0], &self.agent_key, &owner] {
                    let got = status(&self.fixture, key, operation, &self.ids).await;
                    // Set-up is closed: the server has an owner. No provider is configured.
                    assert!(matches!(got, 401 | 404 | 410), "{name} with {key:?}: {got}");
                    cells.push(got.to_string());
                }
                cells[3] = "–".to_owned();
                (cells, secret.to_owned())
            }
            Needs::Person(groups) => {
                let agent_key = self.agent_key.clone();
                for key in ["", &agent_key, MALFORMED[0], MALFORMED[1], MALFORMED[2]] {
                    let got = status(&self.fixture, key, operation, &self.ids).await;
                    assert_eq!(got, 401, "{name} with {key:?}");
                }
                // No key is a person, not even one with every scope.
                let key = self.key(&ALL_SCOPES).await;
                let got = status(&self.fixture, &key, operation, &self.unknown_ids()).await;
                assert_eq!(got, 403, "{name} with an API key");
                let missing = if groups.is_empty() { "–" } else { "403" };
                let cells = ["401", "401", "401", missing].map(str::to_owned).to_vec();
                let mut needs = vec!["signed in".to_owned()];
                needs.extend(groups.iter().map(|group| format!("`{}`", group.join("` or `"))));
                (cells, needs.join(" and "))
            }
            Needs::Scopes(groups) => {
                let agent_key = self.agent_key.clone();
                for key in ["", &agent_key, MALFORMED[0], MALFORMED[1], MALFORMED[2]] {
                    let got = status(&self.fixture, key, operation, &self.ids).await;
                    assert_eq!(got, 401, "{name} with {key:?}");
                }
                let missing = self.without_scopes(operation, groups).await.to_string();
                let missing = if groups.is_empty() { "–".to_owned() } else { missing };
                let groups = groups.iter().map(|group| {
                    let scopes: Vec<_> = group.iter().map(|scope| format!("`{scope}`")).collect();
                    scopes.join(" or ")
                });
                let cells = vec!["401".into(), "401".into(), "401".into(), missing];
                let needs = groups.collect::<Vec<_>>().join(" and ");
                (cells, if needs.is_empty() { "any".to_owned() } else { needs })
            }
        };
        cells.push(self.foreign(operation).await.to_owned());
        for role in ["owner", "admin", "member", "auditor"] {
            let of_person = match operation.needs {
                Needs::Scopes(_) | Needs::Person(_) => {
                    let token = self.people.token(&self.fixture, role).await;
                    let got = status(&self.fixture, &token, operation, &self.unknown_ids()).await;
                    self.people.forget_ended(operation.path, role);
                    Some(!matches!(got, 401 | 403))
                }
                _ => None,
            };
            let may = match (operation.needs, of_person) {
                (Needs::Person(_), Some(may)) => may,
                _ => {
                    let key = self.role(role).await;
                    let got = status(&self.fixture, &key, operation, &self.unknown_ids()).await;
                    let may = !matches!(got, 401 | 403 | 410);
                    // The same table for both: a person may do what a key of the role may do.
                    assert!(of_person.is_none_or(|person| person == may), "{name} as {role}");
                    may
                }
            };
            cells.push(if may { "yes" } else { "no" }.to_owned());
        }
        format!("| {name} | {needs} | {} |", cells.join(" | "))
    }
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_else(|| panic!("{field}: {value}")).to_owned()
}

const HEAD: &str = "\
# Access

Who can call which operation. A test calls every operation of the OpenAPI document as each of these callers, and compares
the result with this page; `MUSTER_WRITE_DOCS=1 cargo nextest run --workspace -E 'test(access_matrix)'` writes it. The rules
behind it are in [SECURITY.md](SECURITY.md#api-keys-and-scopes).

- **Needs**: the scopes of the API key or of the person. *signed in*: a person, and no API key. To cancel, pause, resume or abort what another key requested, a key needs
  `commands:manage`. To retry a command of the life cycle of an agent, it needs `agents:manage`.
- **No key**, **malformed key**, **agent key**: the status for these callers.
- **Scope missing**: the status for a key that has every scope except the needed one.
- **Other tenant**: the status for an owner of another tenant, a person and a key, who uses the ids of this tenant; *nothing* means a list
  without entries of this tenant, *whole server* means data that belongs to no tenant and that all may read. 403 protects what belongs to the operator.
- **Owner**, **admin**, **member**, **auditor**: whether a person with the role, and a key with its default scopes, can call it. `metrics:read`,
  `releases:manage` and `tenants:manage` are rights over the whole server and in no default: the first key of the server has them.

| Operation | Needs | No key | Malformed key | Agent key | Scope missing | Other tenant | Owner | Admin | Member | Auditor |
|---|---|---|---|---|---|---|---|---|---|---|
";

/// Checks that the table has the operations of an OpenAPI document, all of them and no others.
fn check_complete(document: &Value, table: &[Operation]) -> Result<(), String> {
    let mut documented = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for method in item.as_object().expect("methods").keys() {
            documented.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    let entries: BTreeSet<String> =
        table.iter().map(|operation| format!("{} {}", operation.method, operation.path)).collect();
    let missing: Vec<_> = documented.difference(&entries).collect();
    let unknown: Vec<_> = entries.difference(&documented).collect();
    match (missing.as_slice(), unknown.as_slice()) {
        ([], []) => Ok(()),
        _ => Err(format!("without an entry: {missing:?}; not in the document: {unknown:?}")),
    }
}

#[test]
fn operation_without_an_entry_in_the_access_matrix_is_named() {
    let table = operations();
    let mut document = json!({"paths": {}});
    for operation in &table {
        document["paths"][operation.path][operation.method.to_lowercase()] = json!({});
    }
    check_complete(&document, &table).expect("the same operations");
    let mut more = document.clone();
    more["paths"]["/api/agents/{id}"]["put"] = json!({});
    more["paths"]["/api/new"] = json!({"get": {}});
    let refused = check_complete(&more, &table).expect_err("two operations without an entry");
    assert!(
        refused.contains("PUT /api/agents/{id}") && refused.contains("GET /api/new"),
        "{refused}"
    );
    document["paths"].as_object_mut().expect("paths").remove("/api/jobs");
    let refused = check_complete(&document, &table).expect_err("two entries without an operation");
    assert!(refused.contains("GET /api/jobs") && refused.contains("POST /api/jobs"), "{refused}");
}

#[tokio::test]
async fn access_matrix_is_as_documented_and_has_every_operation() {
    let mut access = AccessFixture::new().await;
    let description = access.fixture.api.get("/openapi.json").await.expect(200);
    let table = operations();
    check_complete(&description, &table).expect("a complete table");
    check_scopes(&description, &table).expect("the scopes of the table");

    let mut matrix = HEAD.to_owned();
    for operation in &table {
        let row = access.row(operation).await;
        writeln!(matrix, "{row}").expect("a string");
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/ACCESS.md");
    if std::env::var_os("MUSTER_WRITE_DOCS").is_some() {
        std::fs::write(&file, &matrix).expect("write docs/ACCESS.md");
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(committed == matrix, "docs/ACCESS.md is out of date; it must be:\n{matrix}");
}
