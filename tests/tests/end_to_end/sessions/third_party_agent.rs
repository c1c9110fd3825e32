//! An agent of fifty lines that knows only the frames of the basic protocol.

use muster_tests::{Fixture, ThirdPartyAgent, on_both_databases};
use serde_json::{Value, json};

on_both_databases!(third_party_agent_answers_over_a_websocket, third_party_agent_answers_over_http,);

async fn third_party_agent_answers_over_a_websocket(fixture: Fixture) {
    let (id, key) = fixture.api.agent_key(json!({})).await;
    let agent = ThirdPartyAgent::over_websocket(&fixture.test_dir, &fixture.server.url(), &key);
    answers_everything_it_knows(&fixture, &id, "websocket").await;
    drop(agent);
    fixture.with_status(&id, "offline").await;
}

async fn third_party_agent_answers_over_http(fixture: Fixture) {
    let (id, key) = fixture.api.agent_key(json!({})).await;
    let _agent = ThirdPartyAgent::over_http(&fixture.test_dir, &fixture.server.url(), &key);
    answers_everything_it_knows(&fixture, &id, "http").await;
}

async fn answers_everything_it_knows(fixture: &Fixture, key_id: &str, transport: &str) {
    let shown = fixture.online(key_id).await;
    assert_eq!((&shown["level"], &shown["transport"]), (&json!("basic"), &json!(transport)));
    let path = format!("/api/agents/keys/{key_id}");
    let pong = fixture.api.post(&format!("{path}/ping"), json!({})).await.expect(200);
    assert_eq!(pong["success"], true, "{pong}");
    let ask = async |command: &str, data: Value| {
        let body = json!({"command": command, "data": data});
        fixture.api.post(&format!("{path}/command"), body).await.expect(200)
    };
    let info = ask("info", json!({})).await;
    assert_eq!(info["data"]["version"], "1.0.0", "{info}");
    assert!(info["data"]["python_version"].is_string(), "{info}");
    let echo = ask("echo", json!({"message": "Hello, agent!"})).await;
    assert_eq!(echo["data"], json!({"message": "Hello, agent!"}));
    // The agent does not support it, says so, and continues.
    let refused = ask("scripts", json!({})).await;
    assert_eq!(
        (&refused["success"], &refused["error"]),
        (&json!(false), &json!("unknown command"))
    );
    assert_eq!(ask("ping", json!({})).await["success"], true);
}
