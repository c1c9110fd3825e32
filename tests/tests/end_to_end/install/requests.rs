//! Updates that the host's owner requests, in unusual cases.

use muster_tests::{
    Agent, AgentOptions, Authority, Fixture, Manager, Publisher, ServerOptions, agent_program,
    eventually,
};
use serde_json::json;

use super::{ALL, DEPLOY, NewHost, complaint};

const OWN: &str = env!("CARGO_PKG_VERSION");
const WANTED: &str = "/api/agents/desired-release";

#[tokio::test]
async fn unsupervised_agent_refuses_the_update_request_and_keeps_running() {
    let fixture = Fixture::on_sqlite().await;
    let publisher = Publisher::new(&fixture).await;
    publisher.release("0.9.7").await;
    let (key_id, key) = fixture.api.agent_key(json!({"permissions": ALL})).await;
    let url = fixture.server.url();
    let options = AgentOptions::default();
    let agent = Agent::start(&fixture.test_dir, &url, &key, options);
    let id = fixture.online(&key_id).await["id"].clone();
    let settings = [("MUSTER_API_KEY", key.as_str()), ("MUSTER_SERVER_URL", url.as_str())];
    for words in [&["request-update"][..], &["request-update", "--version", "0.9.7"]] {
        let said = agent_program(agent.state_dir(), words, &settings).await;
        said.expect(1);
        assert!(said.stderr.contains("not updated (not_supervised)"), "{}", said.stderr);
    }
    fixture.ask(id.as_str().expect("an id"), "ping", json!({})).await;
    let nowhere = fixture.test_dir.folder("nowhere");
    let said = agent_program(&nowhere, &["request-update"], &settings).await;
    said.expect(1);
    assert!(said.stderr.contains("no agent runs on"), "{}", said.stderr);
}

#[tokio::test]
async fn agent_without_a_session_accepts_the_request_and_a_failure_is_inconclusive() {
    let new_host = NewHost::on(Manager::Bare).await;
    let publisher = Publisher::new(&new_host.fixture).await;
    publisher.release(OWN).await;
    let words = format!("--key {} --release-key {}", new_host.key, publisher.fingerprint());
    new_host.host.run(&new_host.line(&words)).await.expect(0);
    let knobs = "MUSTER_TRIAL_MS='3000'\nMUSTER_BACKOFF_MAX_MS='200'\n";
    let set = format!("printf %s \"{knobs}\" >>/etc/muster/agent.env && {DEPLOY} --start");
    new_host.host.run(&set).await.expect(0);
    publisher.release("0.9.7").await;
    let path = format!("/api/agents/keys/{}", new_host.key_id);
    new_host.fixture.api.patch(&path, json!({"status": "disabled"})).await.expect(200);
    new_host.fixture.with_status(&new_host.key_id, "offline").await;

    let refused = new_host.host.run(&format!("{DEPLOY} --update")).await;
    refused.expect(1);
    let said = new_host.host.run(&format!("{DEPLOY} --update --version 0.9.7")).await;
    said.expect(1);
    assert!(complaint(&said).contains("failed (server_unreachable)"), "{}", said.stderr);
    new_host.fixture.api.patch(&path, json!({"status": "active"})).await.expect(200);
    new_host.host.run(&format!("{DEPLOY} --start")).await.expect(0);
    eventually("the server knows what came of it", async || {
        let agent = new_host.fixture.online(&new_host.key_id).await;
        let is_it = agent["version"] == OWN && agent["update"]["code"] == "server_unreachable";
        is_it.then_some(())
    })
    .await;
    new_host.host.run(&format!("{DEPLOY} --update --version 0.9.7")).await.expect(0);
}

#[tokio::test]
async fn desired_release_is_reported_to_agent_keys() {
    let fixture = Fixture::on_postgres().await;
    let (_agent, id) = fixture.agent(AgentOptions::default()).await;
    let (_, other) = fixture.api.agent_key(json!({})).await;
    let other = fixture.api.with_key(&other);
    fixture.api.get(WANTED).await.expect(401);
    fixture.api.with_key("").get(WANTED).await.expect(401);
    other.get(WANTED).await.expect_problem(409, "no_release");

    let publisher = Publisher::new(&fixture).await;
    publisher.release("0.9.6").await;
    publisher.release("0.9.7").await;
    let group = json!({"name": "all", "target": {"expression": "all"}, "desired_version": "0.9.6"});
    fixture.api.post("/api/groups", group).await.expect(201);
    // The server reveals nothing about agents of other keys.
    for query in [format!("?agent_id={id}"), String::new()] {
        let told = other.get(&format!("{WANTED}{query}")).await.expect(200);
        assert_eq!(told, json!({"version": "0.9.7"}), "{query}");
    }
    let odd = other.get(&format!("{WANTED}?platform=macos-aarch64")).await;
    odd.expect_problem(409, "no_release");
    other.get(&format!("{WANTED}?agent_id=x")).await.expect_problem(400, "invalid_query");
}

#[tokio::test]
async fn first_release_key_received_over_tls_is_pinned() {
    let mut new_host = NewHost::on(Manager::Bare).await;
    let publisher = Publisher::new(&new_host.fixture).await;
    publisher.release(OWN).await;
    publisher.release("0.9.7").await;
    let authority = Authority::new(&new_host.fixture.test_dir);
    new_host.fixture.server.stop();
    new_host.fixture.server.resume_with(ServerOptions::secured(&authority));
    new_host.fixture.server.ready().await;
    new_host.fixture.api = new_host.fixture.server.api();
    let ca = authority.file().display().to_string();
    let line = new_host.line(&format!("--key {} --ca {ca} --version {OWN}", new_host.key));
    let line = line.replacen("curl", &format!("curl --cacert {ca}"), 1);
    new_host.host.run(&line).await.expect(0);
    let pinned = new_host.host.run("cat /opt/muster/release_key").await.expect(0);
    assert_eq!(pinned.trim(), publisher.fingerprint());
    let said = new_host.host.run(&format!("{DEPLOY} --update")).await.expect(0);
    assert!(said.contains(&format!("updated from {OWN} to 0.9.7")), "{said}");
}
