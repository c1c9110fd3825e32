//! Agent keys: shown once, effective at once, and distinguished by close codes.

use std::time::Duration;

use chrono::{SecondsFormat, TimeDelta, Utc};
use muster_tests::{
    Agent, AgentOptions, Closed, FakeAgent, Fixture, JsonFields as _, eventually,
    on_both_databases, within,
};
use serde_json::json;

on_both_databases!(
    key_is_shown_once_and_never_stored,
    deleted_key_ends_its_sessions_and_is_reported_as_deleted,
    regenerated_key_ends_sessions_of_the_old_secret,
    disabled_key_refuses_sessions_until_it_is_enabled,
    expired_key_refuses_new_sessions_and_ends_open_ones,
    connections_without_a_known_key_are_closed_with_a_reason,
);

async fn key_is_shown_once_and_never_stored(fixture: Fixture) {
    let made = fixture.api.post("/api/agents/keys", json!({"name": "web", "tags": ["blue"]})).await;
    let location = made.header("location").to_owned();
    let made = made.expect(201);
    let id = made.id();
    let key = made.text("key");
    assert!(key.starts_with("mst_agent_"), "{key}");
    assert_eq!(location, format!("/api/agents/keys/{id}"));
    assert_eq!(made["permissions"], json!(["ping", "info", "echo", "scripts", "execute"]));
    assert_eq!((&made["max_agents"], &made["status"]), (&json!(1), &json!("active")));

    let shown = fixture.api.get(&location).await;
    let listed = fixture.api.get("/api/agents/keys").await;
    for answer in [&shown, &listed] {
        assert!(!String::from_utf8_lossy(&answer.bytes).contains(key), "the secret is shown again");
    }
    assert_eq!(shown.expect(200)["tags"], json!(["blue"]));
    assert_eq!(listed.expect(200)["items"][0]["id"], id);
    assert!(!fixture.server.log().contains(key), "the secret is in the log");
    for file in std::fs::read_dir(fixture.server.data_dir()).expect("read the data directory") {
        let bytes = std::fs::read(file.expect("an entry").path()).unwrap_or_default();
        let secret = key.as_bytes();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret), "stored in the clear");
    }
}

async fn deleted_key_ends_its_sessions_and_is_reported_as_deleted(fixture: Fixture) {
    let address = fixture.server.address();
    let (id, key) = fixture.api.agent_key(json!({})).await;
    let mut agent = FakeAgent::registered(&address, &key, "one").await;
    fixture.api.delete(&format!("/api/agents/keys/{id}")).await.expect(204);
    assert_eq!(agent.closed().await, Closed::new(4002, "key_deleted"));
    let mut again = FakeAgent::connect(&address, &key).await;
    assert_eq!(again.closed().await, Closed::new(4002, "key_deleted"));
    fixture.api.get(&format!("/api/agents/keys/{id}")).await.expect_problem(404, "not_found");
}

async fn regenerated_key_ends_sessions_of_the_old_secret(fixture: Fixture) {
    let address = fixture.server.address();
    let (id, old) = fixture.api.agent_key(json!({})).await;
    let mut agent = FakeAgent::registered(&address, &old, "one").await;
    let path = format!("/api/agents/keys/{id}/regenerate");
    let made = fixture.api.post(&path, json!({})).await.expect(200);
    let new = made.text("key");
    assert_ne!(new, old);
    assert_eq!(agent.closed().await, Closed::new(4002, "key_regenerated"));
    let mut again = FakeAgent::connect(&address, &old).await;
    assert_eq!(again.closed().await, Closed::new(4002, "key_regenerated"));
    FakeAgent::registered(&address, new, "one").await;
}

async fn disabled_key_refuses_sessions_until_it_is_enabled(fixture: Fixture) {
    let address = fixture.server.address();
    let (id, key) = fixture.api.agent_key(json!({})).await;
    let mut agent = FakeAgent::registered(&address, &key, "one").await;
    let path = format!("/api/agents/keys/{id}");
    fixture.api.patch(&path, json!({"status": "disabled"})).await.expect(200);
    assert_eq!(agent.closed().await, Closed::new(4003, "key_disabled"));
    let mut again = FakeAgent::connect(&address, &key).await;
    assert_eq!(again.closed().await, Closed::new(4003, "key_disabled"));
    fixture.api.patch(&path, json!({"status": "active"})).await.expect(200);
    FakeAgent::registered(&address, &key, "one").await;
}

async fn expired_key_refuses_new_sessions_and_ends_open_ones(fixture: Fixture) {
    let address = fixture.server.address();
    let expires_at =
        (Utc::now() + TimeDelta::seconds(3)).to_rfc3339_opts(SecondsFormat::Millis, true);
    let (id, key) = fixture.api.agent_key(json!({"expires_at": expires_at})).await;
    let mut agent = FakeAgent::registered(&address, &key, "one").await;
    assert_eq!(agent.closed().await, Closed::new(4003, "key_expired"));
    let mut again = FakeAgent::connect(&address, &key).await;
    assert_eq!(again.closed().await, Closed::new(4003, "key_expired"));
    let path = format!("/api/agents/keys/{id}");
    fixture.api.patch(&path, json!({"expires_at": null})).await.expect(200);
    FakeAgent::registered(&address, &key, "one").await;
}

async fn connections_without_a_known_key_are_closed_with_a_reason(fixture: Fixture) {
    let address = fixture.server.address();
    let mut nobody = FakeAgent::open(&address, "", None).await;
    assert_eq!(nobody.closed().await, Closed::new(4001, "key_missing"));
    let unknown_key = format!("mst_agent_{}", "x".repeat(43));
    let mut unknown = FakeAgent::connect(&address, &unknown_key).await;
    assert_eq!(unknown.closed().await, Closed::new(4002, "key_unknown"));
    assert!(!fixture.server.log().contains(&unknown_key), "a presented key is in the log");
}

#[tokio::test]
async fn agent_reconnects_when_its_key_is_enabled_again() {
    let fixture = Fixture::on_sqlite().await;
    let (id, key) = fixture.api.agent_key(json!({})).await;
    let _agent =
        Agent::start(&fixture.test_dir, &fixture.server.url(), &key, AgentOptions::named("agent"));
    fixture.online(&id).await;
    let path = format!("/api/agents/keys/{id}");
    fixture.api.patch(&path, json!({"status": "disabled"})).await.expect(200);
    fixture.with_status(&id, "offline").await;
    fixture.api.patch(&path, json!({"status": "active"})).await.expect(200);
    within(Duration::from_secs(120), "the agent is back", async || {
        fixture.agents_of(&id).await.iter().any(|agent| agent["status"] == "online").then_some(())
    })
    .await;
}

#[tokio::test]
async fn agent_whose_key_was_deleted_exits_with_99_and_is_not_restarted() {
    let fixture = Fixture::on_sqlite().await;
    let (id, key) = fixture.api.agent_key(json!({})).await;
    let options = AgentOptions::named("agent").supervised();
    let mut agent = Agent::start(&fixture.test_dir, &fixture.server.url(), &key, options);
    fixture.online(&id).await;
    fixture.api.delete(&format!("/api/agents/keys/{id}")).await.expect(204);
    let status = agent.process().ended().await;
    assert_eq!(status.code(), Some(99));
    assert!(agent.agent_ids().is_empty());
    assert!(agent.log().contains("key_deleted"), "the reason is in the log: {}", agent.log());
}

#[tokio::test]
async fn agent_that_never_enrolled_exits_with_99_on_an_unknown_key() {
    let fixture = Fixture::on_sqlite().await;
    let unknown_key = format!("mst_agent_{}", "x".repeat(43));
    let options = AgentOptions::named("agent");
    let mut agent = Agent::start(&fixture.test_dir, &fixture.server.url(), &unknown_key, options);
    assert_eq!(agent.process().ended().await.code(), Some(99));
}

#[tokio::test]
async fn key_regenerated_with_a_grace_period_reaches_the_agent_before_the_old_key_expires() {
    let fixture = Fixture::on_sqlite().await;
    let (id, old) = fixture.api.agent_key(json!({})).await;
    let options = AgentOptions::named("agent");
    let mut agent = Agent::start(&fixture.test_dir, &fixture.server.url(), &old, options);
    fixture.online(&id).await;
    let path = format!("/api/agents/keys/{id}/regenerate");
    fixture.api.post(&path, json!({"grace_ms": 2000})).await.expect(200);
    eventually("the old key is refused", async || {
        let mut probe = FakeAgent::connect(&fixture.server.address(), &old).await;
        (probe.next().await == Err(Closed::new(4002, "key_regenerated"))).then_some(())
    })
    .await;
    // The agent was configured with the old key; it must have kept the new one.
    agent.stop();
    fixture.with_status(&id, "offline").await;
    agent.resume();
    fixture.online(&id).await;
}
