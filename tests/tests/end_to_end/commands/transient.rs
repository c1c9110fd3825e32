//! Transient commands: answered or failed at once, never stored.

use muster_tests::{
    AgentOptions, FakeAgent, Fixture, JsonFields as _, eventually, eventually_shown,
    on_both_databases,
};
use serde_json::{Value, json};

on_both_databases!(
    an_agent_answers_ping_info_echo_and_scripts,
    command_outside_the_permissions_of_the_key_is_refused_first,
    command_to_an_unknown_agent_fails_at_once,
);

async fn an_agent_answers_ping_info_echo_and_scripts(fixture: Fixture) {
    let (_agent, id) = fixture.agent(AgentOptions::named("agent")).await;
    let shown = fixture.api.get(&format!("/api/agents/{id}")).await.expect(200);
    let key_id = shown.text("key_id").to_owned();
    assert_eq!((&shown["level"], &shown["transport"]), (&json!("full"), &json!("websocket")));

    for target in [format!("/api/agents/{id}"), format!("/api/agents/keys/{key_id}")] {
        let pong = fixture.api.post(&format!("{target}/ping"), json!({})).await.expect(200);
        assert_eq!(pong["success"], true, "{pong}");
        let path = format!("{target}/command");
        let data = json!({"message": "Hello, agent! ✓"});
        let body = json!({"command": "echo", "data": data});
        let echo = fixture.api.post(&path, body).await.expect(200);
        assert_eq!(echo["data"]["message"], "Hello, agent! ✓", "{echo}");
        assert!(echo["command_id"].as_str().is_some_and(|id| id.len() == 36), "{echo}");
    }
    let info = fixture.ask(&id, "info", json!({})).await;
    for field in ["agent_id", "hostname", "ip", "os", "version"] {
        assert!(info["data"][field].as_str().is_some_and(|text| !text.is_empty()), "{info}");
    }
    assert_eq!(info["data"]["agent_id"], id.as_str());
    // The field of first-generation agents, which were Python programs.
    assert_eq!(info["data"].get("python_version"), Some(&Value::Null), "{info}");
    let os = info["data"].text("os");
    assert!(os.starts_with("Linux ") && os.contains(|c: char| c.is_ascii_digit()), "{os}");
    let echo = fixture.ask(&id, "echo", json!({})).await;
    assert_eq!(echo["data"], json!({"message": ""}));
    let scripts = fixture.ask(&id, "scripts", json!({})).await;
    assert_eq!(scripts["data"]["scripts"][0]["name"], "hello", "{scripts}");
    let listed = fixture.api.get(&format!("/api/agents/{id}/scripts")).await.expect(200);
    assert!(listed.to_string().contains("\"hello\""), "{listed}");
}

async fn command_outside_the_permissions_of_the_key_is_refused_first(fixture: Fixture) {
    let (id, key) = fixture.api.agent_key(json!({"permissions": ["ping"]})).await;
    let path = format!("/api/agents/keys/{id}/command");
    // Also if no agent is connected, which would be a 409.
    for command in ["echo", "execute", "restart"] {
        let body = json!({"command": command, "data": {"script": "hello"}});
        fixture.api.post(&path, body).await.expect_problem(403, "permission_denied");
    }
    let mut agent = FakeAgent::connect(&fixture.server.address(), &key).await;
    let connected = agent.expect("connected").await;
    assert_eq!(connected["permissions"], json!(["ping"]));
    assert_eq!(connected["agent_key_id"], id.as_str());
    agent.register(json!({"hostname": "one"})).await;
    agent.expect("registered").await;
    let body = json!({"command": "info"});
    fixture.api.post(&path, body).await.expect_problem(403, "permission_denied");
    // A permission that is added is in force at once, and the agent is notified.
    let key_path = format!("/api/agents/keys/{id}");
    fixture.api.patch(&key_path, json!({"permissions": ["ping", "info"]})).await.expect(200);
    assert_eq!(agent.expect("connected").await["permissions"], json!(["ping", "info"]));
    let body = json!({"command": "info", "wait_ms": 100});
    fixture.api.post(&path, body).await.expect_problem(504, "agent_timeout");
    assert_eq!(agent.expect("command").await["command"], "info");
}

async fn command_to_an_unknown_agent_fails_at_once(fixture: Fixture) {
    let (id, key) = fixture.api.agent_key(json!({})).await;
    let path = format!("/api/agents/keys/{id}/command");
    let agent = FakeAgent::registered(&fixture.server.address(), &key, "one").await;
    drop(agent);
    fixture.with_status(&id, "offline").await;
    let body = json!({"command": "ping"});
    let problem = fixture.api.post(&path, body).await.expect_problem(409, "agent_offline");
    assert!(problem["detail"].as_str().is_some_and(|text| text.len() > 10), "{problem}");
}

#[tokio::test]
async fn silent_agent_causes_a_timeout_and_its_late_answer_is_dropped() {
    let fixture = Fixture::on_sqlite().await;
    let (id, key) = fixture.api.agent_key(json!({})).await;
    let mut agent = FakeAgent::registered(&fixture.server.address(), &key, "one").await;
    let path = format!("/api/agents/keys/{id}/command");
    let body = json!({"command": "ping", "wait_ms": 200});
    fixture.api.post(&path, body).await.expect_problem(504, "agent_timeout");
    let late = agent.expect("command").await;
    assert_eq!(late["command"], "ping");
    agent.send(response(&late, json!({"late": true}))).await;
    assert_eq!(agent.expect("error").await["code"], "unknown_command");

    // The session continues, and the next answer belongs to its own command.
    let (api, body) = (fixture.api.clone(), json!({"command": "ping"}));
    let asking = tokio::spawn(async move { api.post(&path, body).await.expect(200) });
    let command = agent.expect("command").await;
    agent.send(response(&command, json!({"on_time": true}))).await;
    let answer = asking.await.expect("answered");
    assert_eq!(answer["data"], json!({"on_time": true}));
    assert_eq!(answer["command_id"], command["command_id"]);
}

#[tokio::test]
async fn command_by_key_needs_an_id_if_the_key_has_several_agents() {
    let fixture = Fixture::on_sqlite().await;
    let (id, key) = fixture.api.agent_key(json!({"max_agents": 2, "trusts_holders": true})).await;
    let address = fixture.server.address();
    let _one = FakeAgent::registered(&address, &key, "one").await;
    let _two = FakeAgent::registered(&address, &key, "two").await;
    let path = format!("/api/agents/keys/{id}/ping");
    fixture.api.post(&path, json!({})).await.expect_problem(409, "ambiguous_agent");
    assert_eq!(fixture.agents_of(&id).await.len(), 2);
}

#[tokio::test]
async fn full_agent_is_not_sent_unsupported_commands() {
    let fixture = Fixture::on_sqlite().await;
    let (id, key) = fixture.api.agent_key(json!({})).await;
    let data = json!({"capabilities": ["ping"]});
    let _agent = FakeAgent::registered_full(&fixture.server.address(), &key, data).await;
    let body = json!({"command": "echo", "data": {"message": "x"}});
    let path = format!("/api/agents/keys/{id}/command");
    fixture.api.post(&path, body).await.expect_problem(409, "unsupported_command");
}

#[tokio::test]
async fn heartbeats_become_telemetry_and_transitions_become_events_once() {
    let fixture = Fixture::on_sqlite().await;
    let (key_id, key) = fixture.api.agent_key(json!({})).await;
    let mut agent = FakeAgent::registered(&fixture.server.address(), &key, "one").await;
    let status = json!({"cpu_percent": 12.5, "memory_percent": 40, "anything": {"else": []}});
    agent.send(json!({"type": "heartbeat", "status": status})).await;
    agent.expect("heartbeat_ack").await;
    let shown = fixture.online(&key_id).await;
    let id = shown.id();
    let path = format!("/api/agents/{id}");
    eventually_shown("the heartbeat is in the telemetry", async || {
        let metrics = fixture.api.get(&format!("{path}/metrics")).await.expect(200);
        if metrics.to_string().contains("12.5") { Ok(()) } else { Err(metrics) }
    })
    .await;
    drop(agent);
    fixture.with_status(&key_id, "offline").await;
    let kinds = |events: &Value, word: &str| events.to_string().matches(word).count();
    // The status is that of the connection and changes at once; the event exists after its commit.
    let events = eventually("the agent's end is an event", async || {
        let events = fixture.api.get(&format!("{path}/events")).await.expect(200);
        (kinds(&events, "\"offline\"") > 0).then_some(events)
    })
    .await;
    assert_eq!((kinds(&events, "\"online\""), kinds(&events, "\"offline\"")), (1, 1), "{events}");
}

fn response(command: &Value, data: Value) -> Value {
    let id = &command["command_id"];
    json!({"type": "response", "command_id": id, "success": true, "data": data})
}
