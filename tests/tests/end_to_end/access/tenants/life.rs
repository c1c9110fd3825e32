//! The export, the deletion and the restoration of a tenant.

use muster_tests::{
    ALL, Agent, AgentOptions, Api, Cli, Fixture, JsonFields as _, LiveStream, Script,
    ServerOptions, eventually, fake_time, on_both_databases,
};
use reqwest::Method;
use serde_json::{Value, json};

on_both_databases!(
    deleted_tenant_is_closed_at_once_restorable_and_then_gone,
    export_has_everything_of_the_tenant_and_nothing_of_another,
);

/// A client of a new tenant's owner, the tenant's id, an agent that has run a script with long output,
/// and its key.
async fn tenant(fixture: &Fixture) -> (Api, String, Agent, String) {
    let made = fixture.api.post("/api/tenants", json!({"name": "Small Ltd"})).await.expect(201);
    let owner = fixture.api.with_key(made.text("key"));
    let (key_id, key) = owner.agent_key(json!({"permissions": ALL})).await;
    let scripts = [Script::new("long", "seq 1 200000")];
    let options = AgentOptions::with_scripts(scripts);
    let agent = Agent::start(&fixture.test_dir, &fixture.server.url(), &key, options);
    let id = online(&owner, &key_id).await;
    let execution = owner.execute(&id, "long", json!({})).await;
    owner.finished(&execution).await;
    (owner, made.id().to_owned(), agent, key)
}

async fn online(owner: &Api, key_id: &str) -> String {
    eventually("the agent is online", async || {
        let agents = owner.get("/api/agents").await;
        let agents = agents.json();
        let agent = agents["items"]
            .as_array()?
            .iter()
            .find(|agent| agent["key_id"] == key_id && agent["status"] == "online")?;
        Some(agent.id().to_owned())
    })
    .await
}

/// Files with output of executions.
fn output_files(fixture: &Fixture) -> Vec<std::path::PathBuf> {
    let mut folders = vec![fixture.server.data_dir().join("output")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files
}

async fn delete(api: &Api, path: &str, name: &str) -> muster_tests::ApiResponse {
    api.send(Method::DELETE, path, Some(json!({"name": name}))).await
}

async fn deleted_tenant_is_closed_at_once_restorable_and_then_gone(mut fixture: Fixture) {
    let (owner, id, mut agent, agent_key) = tenant(&fixture).await;
    assert!(!output_files(&fixture).is_empty());
    let keys = owner.get("/api/agents/keys").await.expect(200);
    let key_id = keys["items"][0].id().to_owned();
    let by_operator = format!("/api/tenants/{id}");
    delete(&owner, "/api/tenant", "small ltd").await.expect_problem(422, "invalid_field");
    delete(&owner, &by_operator, "Small Ltd").await.expect_problem(403, "missing_scope");
    let mut events = LiveStream::open(&owner, "/api/events", "").await.expect("a stream");
    let closed = delete(&owner, "/api/tenant", "Small Ltd").await.expect(202);
    assert!(closed["delete_at"].is_string(), "{closed}");
    // What is open ends, and nothing more is accepted; an owner can still look and restore.
    while events.next().await.is_some() {}
    for path in ["/api/agents", "/api/audit", "/api/tenant/export", "/api/events"] {
        owner.get(path).await.expect_problem(403, "tenant_closed");
    }
    let job = json!({"script": "long", "target": {"expression": "all"}});
    owner.post("/api/jobs", job.clone()).await.expect_problem(403, "tenant_closed");
    let shown = owner.get("/api/tenant").await.expect(200);
    assert_eq!(shown["delete_at"], closed["delete_at"]);
    let beat = json!({"status": {}});
    let as_agent = owner.with_key(&agent_key);
    as_agent.post("/api/agents/heartbeat", beat).await.expect_problem(403, "tenant_closed");
    eventually("the agent was told", async || agent.log().contains("tenant_closed").then_some(()))
        .await;
    // A second request changes nothing.
    let again = delete(&owner, "/api/tenant", "Small Ltd").await.expect(202);
    assert_eq!(again["delete_at"], closed["delete_at"]);
    // It stays closed over a restart.
    fixture.server.stop();
    fixture.server.resume();
    fixture.server.ready().await;
    owner.get("/api/agents").await.expect_problem(403, "tenant_closed");
    let restored = owner.post("/api/tenant/restore", json!({})).await.expect(200);
    assert_eq!(restored["delete_at"], Value::Null);
    online(&owner, &key_id).await;
    // What the operator asks for, only the operator withdraws.
    delete(&fixture.api, &by_operator, "Small Ltd").await.expect(202);
    let refused = owner.post("/api/tenant/restore", json!({})).await;
    refused.expect_problem(409, "deleted_by_operator");
    fixture.api.post(&format!("{by_operator}/restore"), json!({})).await.expect(200);
    online(&owner, &key_id).await;
    // The tenant of the operator stays.
    let own = fixture.api.get("/api/tenant").await.expect(200);
    let refused = delete(&fixture.api, "/api/tenant", own.text("name")).await;
    refused.expect_problem(409, "first_tenant");

    let cli = fixture.cli().await;
    cli.run(&["tenants", "delete", "Small Ltd"]).await.expect(0);
    cli.run(&["tenants", "restore", "Small Ltd"]).await.expect(0);
    cli.run(&["tenants", "delete", "Small Ltd"]).await.expect(0);
    owner.get("/api/agents").await.expect_problem(403, "tenant_closed");
    fixture.server.stop();
    let later = fake_time("+8d");
    let options = later
        .iter()
        .fold(ServerOptions::default(), |options, (name, value)| options.with(name, value));
    fixture.server.resume_with(options);
    fixture.server.ready().await;
    eventually("the tenant is gone", async || {
        let answer = fixture.api.get(&by_operator).await;
        (answer.status == 404).then_some(())
    })
    .await;
    owner.get("/api/tenant").await.expect_problem(401, "invalid_api_key");
    as_agent.get("/api/agents/poll").await.expect_problem(401, "key_unknown");
    eventually("its files are gone", async || output_files(&fixture).is_empty().then_some(()))
        .await;
    fixture
        .api
        .post(&format!("{by_operator}/restore"), json!({}))
        .await
        .expect_problem(404, "not_found");
    // The operator's log still says who asked for it.
    let entries = fixture.api.get("/api/audit").await.expect(200);
    let entries = entries["items"].as_array().expect("entries").clone();
    let asked = entries.iter().find(|entry| entry["action"] == "tenant.delete").expect("an entry");
    assert_eq!(asked["subject_id"], id);
    agent.stop();
}

async fn export_has_everything_of_the_tenant_and_nothing_of_another(fixture: Fixture) {
    let (owner, id, mut agent, agent_key) = tenant(&fixture).await;
    let (other_key_id, _) = fixture.api.agent_key(json!({})).await;
    let cli = Cli::new(&fixture.test_dir);
    let login = ["login", "--server", &fixture.server.url()];
    cli.run_with_input(&login, owner.key()).await.expect(0);
    let file = fixture.test_dir.path().join("tenant.ndjson");
    let name = file.to_str().expect("plain text");
    cli.run(&["tenant", "export", name]).await.expect(0);
    let text = std::fs::read_to_string(&file).expect("read");
    let lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of = |kind: &str| lines.iter().filter(|line| line["type"] == kind).collect::<Vec<_>>();
    assert_eq!(lines[0]["type"], "export");
    assert_eq!(lines[0]["tenant_id"], id);
    let end = lines.last().expect("lines");
    assert_eq!((&end["type"], end.number("lines")), (&json!("end"), lines.len() as u64 - 1));
    for kind in [
        "tenants",
        "api_keys",
        "agent_keys",
        "agents",
        "agent_manifests",
        "commands",
        "command_reports",
        "output",
        "agent_events",
        "audit_entries",
    ] {
        assert!(!of(kind).is_empty(), "no {kind}: {text}");
    }
    let output = of("output")[0];
    assert!(output.number("output_bytes") > 1_000_000, "{output}");
    let read = owner.get(output.text("path")).await;
    assert_eq!(read.bytes.len() as u64, output.number("output_bytes"));
    for secret in [owner.key(), &agent_key, &other_key_id] {
        assert!(!text.contains(secret), "{text}");
    }
    let entries = owner.get("/api/audit").await.expect(200);
    assert_eq!(entries["items"][0].text("action"), "tenant.export");
    // A file that exists is not overwritten, and a file is only of its owner.
    let again = cli.run(&["tenant", "export", name]).await;
    again.expect(1);
    assert_eq!(std::fs::read_to_string(&file).expect("read"), text);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(&file).expect("a file").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    agent.stop();
}
