//! An agent of fifty lines that knows only the first generation's frames.

use muster_tests::{ThirdParty, World, on_both_databases};
use serde_json::{Value, json};

on_both_databases!(
    fifty_lines_answer_over_a_websocket,
    fifty_lines_answer_over_the_three_http_endpoints,
);

async fn fifty_lines_answer_over_a_websocket(world: World) {
    let (id, key) = world.api.agent_key(json!({})).await;
    let agent = ThirdParty::over_websocket(&world.site, &world.server.url(), &key);
    answers_everything_it_knows(&world, &id, "websocket").await;
    drop(agent);
    world.with_status(&id, "offline").await;
}

async fn fifty_lines_answer_over_the_three_http_endpoints(world: World) {
    let (id, key) = world.api.agent_key(json!({})).await;
    let _agent = ThirdParty::over_http(&world.site, &world.server.url(), &key);
    answers_everything_it_knows(&world, &id, "http").await;
}

async fn answers_everything_it_knows(world: &World, key_id: &str, transport: &str) {
    let shown = world.online(key_id).await;
    assert_eq!((&shown["level"], &shown["transport"]), (&json!("basic"), &json!(transport)));
    let path = format!("/api/agents/keys/{key_id}");
    let pong = world.api.post(&format!("{path}/ping"), json!({})).await.expect(200);
    assert_eq!(pong["success"], true, "{pong}");
    let ask = async |command: &str, data: Value| {
        let body = json!({"command": command, "data": data});
        world.api.post(&format!("{path}/command"), body).await.expect(200)
    };
    let info = ask("info", json!({})).await;
    assert_eq!(info["data"]["version"], "1.0.0", "{info}");
    assert!(info["data"]["python_version"].is_string(), "{info}");
    let echo = ask("echo", json!({"message": "Hello, agent!"})).await;
    assert_eq!(echo["data"], json!({"message": "Hello, agent!"}));
    // Beyond its fifty lines: it says so, and lives on.
    let refused = ask("scripts", json!({})).await;
    assert_eq!(
        (&refused["success"], &refused["error"]),
        (&json!(false), &json!("unknown command"))
    );
    assert_eq!(ask("ping", json!({})).await["success"], true);
}
