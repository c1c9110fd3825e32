//! Agents as operators see and look after them.

use muster_tests::{
    Closed, FakeAgent, Fixture, JsonFields as _, full_registration, on_both_databases,
};
use serde_json::json;

on_both_databases!(an_agent_can_be_named_tagged_listed_and_deleted);

async fn an_agent_can_be_named_tagged_listed_and_deleted(fixture: Fixture) {
    let (key_id, key) = fixture.api.agent_key(json!({"tags": ["blue"]})).await;
    let mut agent = FakeAgent::registered(&fixture.server.address(), &key, "one").await;
    let shown = fixture.online(&key_id).await;
    assert_eq!((&shown["hostname"], &shown["tags"]), (&json!("one"), &json!(["blue"])));
    let connected = fixture.api.get("/api/agents/connected").await.expect(200);
    assert_eq!(connected["items"].as_array().map(Vec::len), Some(1), "{connected}");

    let path = format!("/api/agents/{}", shown.id());
    let change = json!({"name": "front", "tags": ["web", "eu"]});
    fixture.api.patch(&path, change).await.expect(200);
    let shown = fixture.api.get(&path).await.expect(200);
    assert_eq!((&shown["name"], &shown["tags"]), (&json!("front"), &json!(["web", "eu"])));
    let refused = fixture.api.patch(&path, json!({"hostname": "two"})).await;
    let problem = refused.expect_problem(422, "invalid_body");
    assert!(problem["detail"].as_str().is_some_and(|text| text.contains("hostname")), "{problem}");

    fixture.api.delete(&path).await.expect(204);
    agent.closed().await;
    fixture.api.get(&path).await.expect_problem(404, "not_found");
    let connected = fixture.api.get("/api/agents/connected").await.expect(200);
    assert_eq!(connected["items"], json!([]));
    // Its key still holds: it may enrol anew.
    FakeAgent::registered(&fixture.server.address(), &key, "one").await;
}

#[tokio::test]
async fn full_agent_with_its_key_in_the_url_is_refused() {
    let fixture = Fixture::on_sqlite().await;
    let (_, key) = fixture.api.agent_key(json!({})).await;
    let mut agent = FakeAgent::connect(&fixture.server.address(), &key).await;
    agent.expect("connected").await;
    agent.register(full_registration(json!({}))).await;
    assert_eq!(agent.closed().await, Closed::new(1008, "policy_violation"));
    assert!(!fixture.server.log().contains(&key), "the key is in the log");
}
