//! Examples: keys of agents, agents, and releases.

use muster_protocol::release::Platform;
use muster_tests::{
    Agent, FakeAgent, Fixture, JsonFields as _, Publisher, eventually_shown, key_pair_of,
};
use reqwest::Method;
use serde_json::json;

use super::Recorder;

pub async fn keys(run: &mut Recorder<'_>) {
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
    let month = json!({"older_than_ms": 2_592_000_000_u64});
    run.post("/api/storage/purge/preview", month.clone()).await;
    run.post("/api/storage/purge", month).await;
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
pub async fn adoption(run: &mut Recorder<'_>) {
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
pub async fn report_facts(fixture: &Fixture, agent: &Agent, id: &str) {
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

pub async fn agents(run: &mut Recorder<'_>, id: &str) {
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

pub async fn releases(run: &mut Recorder<'_>) {
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
pub async fn basic_agent(run: &mut Recorder<'_>) {
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
