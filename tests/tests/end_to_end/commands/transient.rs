//! Transient commands: answered now or failed now, never kept.

use muster_tests::{
    AgentOptions, FakeAgent, World, eventually, eventually_shown, on_both_databases,
};
use serde_json::{Value, json};

on_both_databases!(
    an_agent_answers_ping_info_echo_and_scripts,
    a_command_outside_the_keys_permissions_is_refused_before_anything_else,
    a_command_to_nobody_fails_at_once,
);

async fn an_agent_answers_ping_info_echo_and_scripts(world: World) {
    let (_agent, id) = world.agent(AgentOptions::named("agent")).await;
    let shown = world.api.get(&format!("/api/agents/{id}")).await.expect(200);
    let key_id = shown["key_id"].as_str().expect("a key").to_owned();
    assert_eq!((&shown["level"], &shown["transport"]), (&json!("full"), &json!("websocket")));

    for target in [format!("/api/agents/{id}"), format!("/api/agents/keys/{key_id}")] {
        let pong = world.api.post(&format!("{target}/ping"), json!({})).await.expect(200);
        assert_eq!(pong["success"], true, "{pong}");
        let path = format!("{target}/command");
        let data = json!({"message": "Hello, agent! ✓"});
        let body = json!({"command": "echo", "data": data});
        let echo = world.api.post(&path, body).await.expect(200);
        assert_eq!(echo["data"]["message"], "Hello, agent! ✓", "{echo}");
        assert!(echo["command_id"].as_str().is_some_and(|id| id.len() == 36), "{echo}");
    }
    let info = world.ask(&id, "info", json!({})).await;
    for field in ["agent_id", "hostname", "ip", "os", "version"] {
        assert!(info["data"][field].as_str().is_some_and(|text| !text.is_empty()), "{info}");
    }
    assert_eq!(info["data"]["agent_id"], id.as_str());
    let scripts = world.ask(&id, "scripts", json!({})).await;
    assert_eq!(scripts["data"]["scripts"][0]["name"], "hello", "{scripts}");
    let listed = world.api.get(&format!("/api/agents/{id}/scripts")).await.expect(200);
    assert!(listed.to_string().contains("\"hello\""), "{listed}");
}

async fn a_command_outside_the_keys_permissions_is_refused_before_anything_else(world: World) {
    let (id, key) = world.api.agent_key(json!({"permissions": ["ping"]})).await;
    let path = format!("/api/agents/keys/{id}/command");
    // Also while nobody is there, which would be a 409.
    for command in ["echo", "execute", "restart"] {
        let body = json!({"command": command, "data": {"script": "hello"}});
        world.api.post(&path, body).await.expect_problem(403, "permission_denied");
    }
    let mut agent = FakeAgent::connect(&world.server.address(), &key).await;
    let connected = agent.expect("connected").await;
    assert_eq!(connected["permissions"], json!(["ping"]));
    assert_eq!(connected["agent_key_id"], id.as_str());
    agent.register(json!({"hostname": "one"})).await;
    agent.expect("registered").await;
    let body = json!({"command": "info"});
    world.api.post(&path, body).await.expect_problem(403, "permission_denied");
    // A permission that is added holds at once, and the agent is told.
    let key_path = format!("/api/agents/keys/{id}");
    world.api.patch(&key_path, json!({"permissions": ["ping", "info"]})).await.expect(200);
    assert_eq!(agent.expect("connected").await["permissions"], json!(["ping", "info"]));
    let body = json!({"command": "info", "wait_ms": 100});
    world.api.post(&path, body).await.expect_problem(504, "agent_timeout");
    assert_eq!(agent.expect("command").await["command"], "info");
}

async fn a_command_to_nobody_fails_at_once(world: World) {
    let (id, key) = world.api.agent_key(json!({})).await;
    let path = format!("/api/agents/keys/{id}/command");
    let agent = FakeAgent::registered(&world.server.address(), &key, "one").await;
    drop(agent);
    world.with_status(&id, "offline").await;
    let body = json!({"command": "ping"});
    let problem = world.api.post(&path, body).await.expect_problem(409, "agent_offline");
    assert!(problem["detail"].as_str().is_some_and(|text| text.len() > 10), "{problem}");
}

#[tokio::test]
async fn an_agent_that_stays_silent_is_a_timeout_and_its_late_answer_is_nobodys() {
    let world = World::on_sqlite().await;
    let (id, key) = world.api.agent_key(json!({})).await;
    let mut agent = FakeAgent::registered(&world.server.address(), &key, "one").await;
    let path = format!("/api/agents/keys/{id}/command");
    let body = json!({"command": "ping", "wait_ms": 200});
    world.api.post(&path, body).await.expect_problem(504, "agent_timeout");
    let late = agent.expect("command").await;
    assert_eq!(late["command"], "ping");
    agent.send(response(&late, json!({"late": true}))).await;
    assert_eq!(agent.expect("error").await["code"], "unknown_command");

    // The session goes on, and the next answer finds its own command.
    let (api, body) = (world.api.clone(), json!({"command": "ping"}));
    let asking = tokio::spawn(async move { api.post(&path, body).await.expect(200) });
    let command = agent.expect("command").await;
    agent.send(response(&command, json!({"on_time": true}))).await;
    let answer = asking.await.expect("answered");
    assert_eq!(answer["data"], json!({"on_time": true}));
    assert_eq!(answer["command_id"], command["command_id"]);
}

#[tokio::test]
async fn a_key_of_several_agents_needs_the_agents_id() {
    let world = World::on_sqlite().await;
    let (id, key) = world.api.agent_key(json!({"max_agents": 2})).await;
    let address = world.server.address();
    let _one = FakeAgent::registered(&address, &key, "one").await;
    let _two = FakeAgent::registered(&address, &key, "two").await;
    let path = format!("/api/agents/keys/{id}/ping");
    world.api.post(&path, json!({})).await.expect_problem(409, "ambiguous_agent");
    assert_eq!(world.agents_of(&id).await.len(), 2);
}

#[tokio::test]
async fn a_full_agent_is_not_sent_what_it_can_not_do() {
    let world = World::on_sqlite().await;
    let (id, key) = world.api.agent_key(json!({})).await;
    let data = json!({"capabilities": ["ping"]});
    let _agent = FakeAgent::registered_full(&world.server.address(), &key, data).await;
    let body = json!({"command": "echo", "data": {"message": "x"}});
    let path = format!("/api/agents/keys/{id}/command");
    world.api.post(&path, body).await.expect_problem(409, "unsupported_command");
}

#[tokio::test]
async fn heartbeats_become_telemetry_and_transitions_become_events_once() {
    let world = World::on_sqlite().await;
    let (key_id, key) = world.api.agent_key(json!({})).await;
    let mut agent = FakeAgent::registered(&world.server.address(), &key, "one").await;
    let status = json!({"cpu_percent": 12.5, "memory_percent": 40, "anything": {"else": []}});
    agent.send(json!({"type": "heartbeat", "status": status})).await;
    agent.expect("heartbeat_ack").await;
    let shown = world.online(&key_id).await;
    let id = shown["id"].as_str().expect("an id");
    let path = format!("/api/agents/{id}");
    eventually_shown("the heartbeat is in the telemetry", async || {
        let metrics = world.api.get(&format!("{path}/metrics")).await.expect(200);
        if metrics.to_string().contains("12.5") { Ok(()) } else { Err(metrics) }
    })
    .await;
    drop(agent);
    world.with_status(&key_id, "offline").await;
    let kinds = |events: &Value, word: &str| events.to_string().matches(word).count();
    // The status is the connection's and changes at once; the event is there after its commit.
    let events = eventually("the agent's end is an event", async || {
        let events = world.api.get(&format!("{path}/events")).await.expect(200);
        (kinds(&events, "\"offline\"") > 0).then_some(events)
    })
    .await;
    assert_eq!((kinds(&events, "\"online\""), kinds(&events, "\"offline\"")), (1, 1), "{events}");
}

fn response(command: &Value, data: Value) -> Value {
    let id = &command["command_id"];
    json!({"type": "response", "command_id": id, "success": true, "data": data})
}
