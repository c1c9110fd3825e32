//! Agent keys: shown once, obeyed at once, and told apart by close codes.

use std::time::Duration;

use chrono::{SecondsFormat, TimeDelta, Utc};
use muster_tests::{
    Agent, AgentOptions, Closed, FakeAgent, World, eventually, on_both_databases, within,
};
use serde_json::json;

on_both_databases!(
    a_key_is_shown_once_and_never_stored,
    a_deleted_key_ends_its_sessions_and_is_remembered_as_deleted,
    a_regenerated_key_ends_sessions_of_the_old_secret,
    a_disabled_key_ends_sessions_until_it_is_active_again,
    an_expired_key_opens_no_session_and_ends_those_that_stand,
    connections_without_a_known_key_are_closed_with_a_reason,
);

async fn a_key_is_shown_once_and_never_stored(world: World) {
    let made = world.api.post("/api/agents/keys", json!({"name": "web", "tags": ["blue"]})).await;
    let location = made.header("location").to_owned();
    let made = made.expect(201);
    let id = made["id"].as_str().expect("an id");
    let key = made["key"].as_str().expect("a key");
    assert!(key.starts_with("mst_agent_"), "{key}");
    assert_eq!(location, format!("/api/agents/keys/{id}"));
    assert_eq!(made["permissions"], json!(["ping", "info", "echo", "scripts", "execute"]));
    assert_eq!((&made["max_agents"], &made["status"]), (&json!(1), &json!("active")));

    let shown = world.api.get(&location).await;
    let listed = world.api.get("/api/agents/keys").await;
    for answer in [&shown, &listed] {
        assert!(!String::from_utf8_lossy(&answer.bytes).contains(key), "the secret is shown again");
    }
    assert_eq!(shown.expect(200)["tags"], json!(["blue"]));
    assert_eq!(listed.expect(200)["items"][0]["id"], id);
    assert!(!world.server.log().contains(key), "the secret is in the log");
    for file in std::fs::read_dir(world.server.data_dir()).expect("read the data directory") {
        let bytes = std::fs::read(file.expect("an entry").path()).unwrap_or_default();
        let secret = key.as_bytes();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret), "stored in the clear");
    }
}

async fn a_deleted_key_ends_its_sessions_and_is_remembered_as_deleted(world: World) {
    let address = world.server.address();
    let (id, key) = world.api.agent_key(json!({})).await;
    let mut agent = FakeAgent::registered(&address, &key, "one").await;
    world.api.delete(&format!("/api/agents/keys/{id}")).await.expect(204);
    assert_eq!(agent.closed().await, Closed::new(4002, "key_deleted"));
    let mut again = FakeAgent::connect(&address, &key).await;
    assert_eq!(again.closed().await, Closed::new(4002, "key_deleted"));
    world.api.get(&format!("/api/agents/keys/{id}")).await.expect_problem(404, "not_found");
}

async fn a_regenerated_key_ends_sessions_of_the_old_secret(world: World) {
    let address = world.server.address();
    let (id, old) = world.api.agent_key(json!({})).await;
    let mut agent = FakeAgent::registered(&address, &old, "one").await;
    let path = format!("/api/agents/keys/{id}/regenerate");
    let made = world.api.post(&path, json!({})).await.expect(200);
    let new = made["key"].as_str().expect("a new key");
    assert_ne!(new, old);
    assert_eq!(agent.closed().await, Closed::new(4002, "key_regenerated"));
    let mut again = FakeAgent::connect(&address, &old).await;
    assert_eq!(again.closed().await, Closed::new(4002, "key_regenerated"));
    FakeAgent::registered(&address, new, "one").await;
}

async fn a_disabled_key_ends_sessions_until_it_is_active_again(world: World) {
    let address = world.server.address();
    let (id, key) = world.api.agent_key(json!({})).await;
    let mut agent = FakeAgent::registered(&address, &key, "one").await;
    let path = format!("/api/agents/keys/{id}");
    world.api.patch(&path, json!({"status": "disabled"})).await.expect(200);
    assert_eq!(agent.closed().await, Closed::new(4003, "key_disabled"));
    let mut again = FakeAgent::connect(&address, &key).await;
    assert_eq!(again.closed().await, Closed::new(4003, "key_disabled"));
    world.api.patch(&path, json!({"status": "active"})).await.expect(200);
    FakeAgent::registered(&address, &key, "one").await;
}

async fn an_expired_key_opens_no_session_and_ends_those_that_stand(world: World) {
    let address = world.server.address();
    let expires_at =
        (Utc::now() + TimeDelta::seconds(3)).to_rfc3339_opts(SecondsFormat::Millis, true);
    let (id, key) = world.api.agent_key(json!({"expires_at": expires_at})).await;
    let mut agent = FakeAgent::registered(&address, &key, "one").await;
    assert_eq!(agent.closed().await, Closed::new(4003, "key_expired"));
    let mut again = FakeAgent::connect(&address, &key).await;
    assert_eq!(again.closed().await, Closed::new(4003, "key_expired"));
    let path = format!("/api/agents/keys/{id}");
    world.api.patch(&path, json!({"expires_at": null})).await.expect(200);
    FakeAgent::registered(&address, &key, "one").await;
}

async fn connections_without_a_known_key_are_closed_with_a_reason(world: World) {
    let address = world.server.address();
    let mut nobody = FakeAgent::open(&address, "", None).await;
    assert_eq!(nobody.closed().await, Closed::new(4001, "key_missing"));
    let stranger = format!("mst_agent_{}", "x".repeat(43));
    let mut unknown = FakeAgent::connect(&address, &stranger).await;
    assert_eq!(unknown.closed().await, Closed::new(4002, "key_unknown"));
    assert!(!world.server.log().contains(&stranger), "a presented key is in the log");
}

#[tokio::test]
async fn a_real_agent_comes_back_by_itself_when_its_key_is_active_again() {
    let world = World::on_sqlite().await;
    let (id, key) = world.api.agent_key(json!({})).await;
    let _agent = Agent::start(&world.site, &world.server.url(), &key, AgentOptions::named("agent"));
    world.online(&id).await;
    let path = format!("/api/agents/keys/{id}");
    world.api.patch(&path, json!({"status": "disabled"})).await.expect(200);
    world.with_status(&id, "offline").await;
    world.api.patch(&path, json!({"status": "active"})).await.expect(200);
    within(Duration::from_secs(120), "the agent is back", async || {
        world.agents_of(&id).await.iter().any(|agent| agent["status"] == "online").then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_agent_whose_key_was_deleted_ends_with_99_and_its_supervisor_stays_ended() {
    let world = World::on_sqlite().await;
    let (id, key) = world.api.agent_key(json!({})).await;
    let options = AgentOptions::named("agent").supervised();
    let mut agent = Agent::start(&world.site, &world.server.url(), &key, options);
    world.online(&id).await;
    world.api.delete(&format!("/api/agents/keys/{id}")).await.expect(204);
    let status = agent.process().ended().await;
    assert_eq!(status.code(), Some(99));
    assert!(agent.agent_ids().is_empty());
    assert!(agent.log().contains("key_deleted"), "the reason is in the log: {}", agent.log());
}

#[tokio::test]
async fn an_agent_that_never_enrolled_ends_with_99_on_an_unknown_key() {
    let world = World::on_sqlite().await;
    let stranger = format!("mst_agent_{}", "x".repeat(43));
    let options = AgentOptions::named("agent");
    let mut agent = Agent::start(&world.site, &world.server.url(), &stranger, options);
    assert_eq!(agent.process().ended().await.code(), Some(99));
}

#[tokio::test]
async fn a_key_regenerated_with_grace_reaches_the_agent_before_the_old_one_ends() {
    let world = World::on_sqlite().await;
    let (id, old) = world.api.agent_key(json!({})).await;
    let options = AgentOptions::named("agent");
    let mut agent = Agent::start(&world.site, &world.server.url(), &old, options);
    world.online(&id).await;
    let path = format!("/api/agents/keys/{id}/regenerate");
    world.api.post(&path, json!({"grace_ms": 2000})).await.expect(200);
    eventually("the old key is refused", async || {
        let mut probe = FakeAgent::connect(&world.server.address(), &old).await;
        (probe.next().await == Err(Closed::new(4002, "key_regenerated"))).then_some(())
    })
    .await;
    // The agent was configured with the old key; it must have kept the new one.
    agent.stop();
    world.with_status(&id, "offline").await;
    agent.resume();
    world.online(&id).await;
}
