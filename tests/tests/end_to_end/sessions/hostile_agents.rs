//! Agents that violate the protocol: each gets a clear answer, and the server continues.

use muster_tests::{Closed, FakeAgent, Fixture, JsonFields as _, eventually, on_both_databases};
use reqwest::Method;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

on_both_databases!(invalid_frames_get_an_error_and_keep_the_session);

async fn invalid_frames_get_an_error_and_keep_the_session(fixture: Fixture) {
    let (id, key) = fixture.api.agent_key(json!({})).await;
    let mut agent = FakeAgent::registered(&fixture.server.address(), &key, "one").await;
    for (text, code) in [
        ("{", "malformed_json"),
        ("[1, 2]", "malformed_json"),
        ("\"register\"", "malformed_json"),
        ("{\"type\": \"dance\"}", "unknown_type"),
        ("{\"type\": \"response\", \"success\": \"maybe\"}", "invalid_frame"),
    ] {
        agent.send_text(text).await;
        let error = agent.expect("error").await;
        assert_eq!(error["code"], code, "{text}: {error}");
        assert!(error["message"].as_str().is_some_and(|text| text.len() > 5), "{error}");
    }
    // One answer for each unknown type and session.
    agent.send(json!({"type": "dance"})).await;
    agent.send(json!({"type": "heartbeat", "status": {}})).await;
    agent.expect("heartbeat_ack").await;
    let answer = "{\"type\":\"response\",\"command_id\":\"01900000-0000-7000-8000-000000000001\",\"success\":true}";
    agent.send_text(answer).await;
    assert_eq!(agent.expect("error").await["code"], "unknown_command");
    fixture.online(&id).await;
}

#[tokio::test]
async fn frame_before_register_gets_an_error_and_register_still_works() {
    let fixture = Fixture::on_sqlite().await;
    let (id, key) = fixture.api.agent_key(json!({})).await;
    let mut agent = FakeAgent::connect(&fixture.server.address(), &key).await;
    agent.expect("connected").await;
    agent.send(json!({"type": "heartbeat", "status": {}})).await;
    assert_eq!(agent.expect("error").await["code"], "unexpected_frame");
    agent.register(json!({"hostname": "one"})).await;
    agent.expect("registered").await;
    fixture.online(&id).await;
}

#[tokio::test]
async fn oversized_frame_ends_only_its_session() {
    let fixture = Fixture::on_sqlite().await;
    let (id, key) = fixture.api.agent_key(json!({})).await;
    let (_, other) = fixture.api.agent_key(json!({})).await;
    let address = fixture.server.address();
    let mut bystander = FakeAgent::registered(&address, &other, "bystander").await;
    let mut agent = FakeAgent::registered(&address, &key, "one").await;
    let huge = json!({"type": "heartbeat", "status": {"x": "y".repeat(1024 * 1024)}});
    agent.send(huge).await;
    assert_eq!(agent.closed().await, Closed::new(1009, "frame_too_big"));
    fixture.with_status(&id, "offline").await;
    bystander.send(json!({"type": "heartbeat", "status": {}})).await;
    bystander.expect("heartbeat_ack").await;
    FakeAgent::registered(&address, &key, "one").await;
}

#[tokio::test]
async fn largest_allowed_heartbeat_and_deep_nesting_are_harmless() {
    let fixture = Fixture::on_sqlite().await;
    let (id, key) = fixture.api.agent_key(json!({})).await;
    let mut agent = FakeAgent::registered(&fixture.server.address(), &key, "one").await;
    let large = json!({"type": "heartbeat", "status": {"x": "y".repeat(900 * 1024)}});
    agent.send(large).await;
    agent.expect("heartbeat_ack").await;
    let deep = format!(
        "{{\"type\":\"heartbeat\",\"status\":{{\"x\":{}1{}}}}}",
        "[".repeat(50_000),
        "]".repeat(50_000)
    );
    agent.send_text(&deep).await;
    agent.expect("error").await;
    fixture.online(&id).await;
    let shown = fixture.api.get("/api/agents").await.expect(200);
    assert!(shown.to_string().len() < 100_000, "what an agent sends is not shown without bound");
}

#[tokio::test]
async fn binary_garbage_and_forged_output_are_refused() {
    let fixture = Fixture::on_sqlite().await;
    let (id, key) = fixture.api.agent_key(json!({})).await;
    let address = fixture.server.address();
    let host = json!({"machine_id": "a".repeat(64), "ledger_id": uuid::Uuid::new_v4()});
    let (mut agent, registered) = FakeAgent::registered_full(&address, &key, host.clone()).await;
    for bytes in [vec![], vec![1; 10], vec![9; 60], vec![255; 200]] {
        // It may be an error frame or a close; it is never an outage.
        if agent.try_send(Message::binary(bytes)).await.is_err() {
            break;
        }
    }
    drop(agent);
    let mut host = host;
    host["agent_id"] = registered["agent_id"].clone();
    let (mut agent, _) = FakeAgent::registered_full(&address, &key, host).await;
    let foreign_response =
        json!({"type": "response", "command_id": uuid::Uuid::now_v7(), "success": true});
    agent.send(foreign_response).await;
    fixture.api.get("/healthz").await.expect(200);
    assert!(!fixture.agents_of(&id).await.is_empty());
}

#[tokio::test]
async fn agent_cannot_settle_the_command_of_another() {
    let fixture = Fixture::on_sqlite().await;
    let address = fixture.server.address();
    let (victim, victim_key) = fixture.api.agent_key(json!({})).await;
    let (_, thief_key) = fixture.api.agent_key(json!({})).await;
    let mut owner = FakeAgent::registered(&address, &victim_key, "owner").await;
    let mut thief = FakeAgent::registered(&address, &thief_key, "thief").await;
    let body = json!({"command": "execute", "data": {"script": "x"}});
    let path = format!("/api/agents/keys/{victim}/command");
    let made = fixture.api.post(&path, body).await.expect(202);
    let command = owner.expect("command").await;
    assert_eq!(command["command_id"], made["id"]);
    let settle = |success: bool| json!({"type": "response", "command_id": made["id"], "success": success, "data": {}});
    thief.send(settle(true)).await;
    assert_eq!(thief.expect("error").await["code"], "unknown_command");
    owner.send(settle(false)).await;
    let id = made.id();
    assert_eq!(fixture.api.finished(id).await["state"], "failed");
}

#[tokio::test]
async fn http_endpoints_refuse_invalid_requests() {
    let fixture = Fixture::on_sqlite().await;
    let (_, key) = fixture.api.agent_key(json!({})).await;
    let agent = fixture.api.with_key(&key);
    let post = async |path: &str, body: Vec<u8>| {
        let path = format!("/api/agents/{path}");
        agent.try_send(Method::POST, &path, &[], Some(body)).await.expect("reach the server")
    };
    assert_eq!(
        post("heartbeat", br#"{"type":"heartbeat","status":{}}"#.to_vec()).await.status,
        200
    );
    for path in ["heartbeat", "result", "exchange"] {
        let answer = post(path, b"{".to_vec()).await;
        assert!((400..500).contains(&answer.status), "{path}: {}", answer.status);
        assert!(answer.json()["code"].is_string(), "{path}: {:?}", answer.json());
    }
    // A little more than is allowed, but within the buffers of a connection, so that the answer is
    // read.
    let huge = post("heartbeat", vec![b' '; 1024 * 1024 + 1]).await;
    assert_eq!(huge.status, 413);
    let unknown = json!({
        "command_id": "01900000-0000-7000-8000-000000000001",
        "result": {"type": "response", "command_id": "01900000-0000-7000-8000-000000000001", "success": true},
    });
    let answer = post("result", unknown.to_string().into_bytes()).await;
    assert!((400..500).contains(&answer.status), "{}", answer.status);
    let unknown_caller = fixture.api.with_key("mst_agent_nobody");
    assert_eq!(unknown_caller.get("/api/agents/poll").await.status, 401);
}

#[tokio::test]
async fn facts_reported_by_an_agent_are_bounded_and_stay_text() {
    let fixture = Fixture::on_sqlite().await;
    let (id, key) = fixture.api.agent_key(json!({})).await;
    let mut agent = FakeAgent::connect(&fixture.server.address(), &key).await;
    agent.expect("connected").await;
    let script = "<script>alert(1)</script>\u{0}\u{7}\u{202e}";
    let data = json!({"hostname": script, "os": "x".repeat(100_000), "ip": "not an address"});
    agent.register(data).await;
    agent.expect("registered").await;
    let shown = fixture.online(&id).await;
    assert!(shown["os"].as_str().is_some_and(|os| os.len() <= 1024), "unbounded");
    let name = shown.text("hostname");
    assert!(!name.contains(['\u{0}', '\u{7}']), "control characters: {name:?}");
    assert_ne!(shown["ip"], Value::Null);
}

#[tokio::test]
async fn manifest_of_a_hostile_agent_is_checked_cleaned_and_written_once() {
    let fixture = Fixture::on_sqlite().await;
    let (key_id, key) = fixture.api.agent_key(json!({})).await;
    let address = fixture.server.address();
    let (mut agent, _) = FakeAgent::registered_full(&address, &key, json!({})).await;
    let id = fixture.online(&key_id).await.id().to_owned();
    let path = format!("/api/agents/{id}/scripts");
    let shown = async |is_current: &dyn Fn(&Value) -> bool| {
        eventually("the manifest is stored", async || {
            let shown = fixture.api.get(&path).await.expect(200);
            is_current(&shown).then_some(shown)
        })
        .await
    };
    let script = |name: &str, text: &str| json!({"name": name, "path": "x", "description": text});
    let send = |scripts: Value| json!({"type": "manifest", "manifest": {"scripts": scripts}});

    let hidden = "greets\u{1b}[2J\u{200b}\u{2028}\u{202e} people";
    agent.send(send(json!([script("hello", hidden)]))).await;
    let first = shown(&|shown| shown["items"][0]["name"] == "hello").await;
    assert_eq!(first["items"][0]["description"], "greets[2J people");
    // The same report again is not stored again, however often the agent sends it.
    for _ in 0..50 {
        agent.send(send(json!([script("hello", hidden)]))).await;
    }
    agent.send(json!({"type": "heartbeat", "status": {}})).await;
    agent.expect("heartbeat_ack").await;
    assert_eq!(fixture.api.get(&path).await.expect(200)["reported_at"], first["reported_at"]);

    let many: Vec<_> = (0..10_001).map(|n| script(&n.to_string(), "")).collect();
    for refused in [json!(many), json!([script("<b>hello</b>", "")])] {
        agent.send(send(json!([script("hello", "")]))).await;
        shown(&|shown| shown["error"].is_null()).await;
        agent.send(send(refused)).await;
        let shown = shown(&|shown| shown["error"].is_string()).await;
        assert_eq!(shown["items"], json!([]), "{shown}");
        let reason = shown.text("error");
        assert!(reason.starts_with("the server does not use the reported manifest"), "{reason}");
    }
}
