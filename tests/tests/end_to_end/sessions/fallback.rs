//! Networks that block, break or go silent while output flows: no byte is lost or doubled.

use std::time::Duration;

use muster_tests::{
    AgentOptions, Link, Script, ServerOptions, World, on_both_databases, sha256, within,
};
use serde_json::json;

on_both_databases!(
    a_proxy_that_blocks_websockets_mid_output_costs_no_byte,
    a_connection_cut_again_and_again_costs_no_byte,
);

/// Longer than any backoff that a test provokes.
const PATIENCE: Duration = Duration::from_secs(150);
/// Soon enough that a test can wait for the way back to the WebSocket.
const SOON_MS: u32 = 500;

/// Prints until it is told to stop, so that output flows whatever happens to the network.
fn flowing() -> Script {
    let body = "i=0\nwhile [ ! -e \"$STOP\" ]; do\n  i=$((i+1))\n  \
                printf 'line %08d of the output\\n' $i\n  sleep 0.005\ndone\n";
    Script::new("flowing", body).taking(["STOP"])
}

async fn started(world: &World, agent: &str) -> String {
    let stop = world.site.path().join("stop");
    let id = world.api.execute(agent, "flowing", json!({"parameters": {"STOP": stop}})).await;
    world.api.output_reaches(&id, 1).await;
    id
}

async fn output_grows(world: &World, id: &str) {
    let before = world.api.command(id).await["output_bytes"].as_u64().expect("a number");
    within(PATIENCE, "more output is committed", async || {
        let command = world.api.command(id).await;
        assert_eq!(command["state"], "running", "{command}");
        (command["output_bytes"].as_u64()? > before).then_some(())
    })
    .await;
}

/// Lets the script end and holds what the server has against what the script printed.
async fn ends_whole(world: &World, id: &str) {
    std::fs::write(world.site.path().join("stop"), "").expect("stop the script");
    let command = world.api.finished(id).await;
    assert_eq!(command["state"], "succeeded", "{command}");
    let output = world.api.output(id).await;
    let line_bytes = Script::counted(1).len();
    let lines = u32::try_from(output.len() / line_bytes).expect("a small number");
    assert!(output == Script::counted(lines), "the output of {lines} lines differs");
    assert_eq!(command["result"]["output_sha256"], sha256(&output), "{command}");
    assert_eq!(command["result"]["output_complete"], true, "{command}");
}

async fn reached_over(world: &World, agent: &str, transport: &str) {
    let path = format!("/api/agents/{agent}");
    within(PATIENCE, &format!("the agent is reached over {transport}"), async || {
        let shown = world.api.get(&path).await.expect(200);
        (shown["status"] == "online" && shown["transport"] == transport).then_some(())
    })
    .await;
}

async fn a_proxy_that_blocks_websockets_mid_output_costs_no_byte(world: World) {
    let link = Link::to(&world.server.address()).await;
    let options = AgentOptions::with_scripts([flowing()]).with("MUSTER_WS_RETRY_MS", SOON_MS);
    let (_agent, agent) = world.agent_through(&link.url(), options).await;
    let id = started(&world, &agent).await;

    link.block_upgrades(true);
    reached_over(&world, &agent, "http").await;
    assert!(link.upgrades_blocked() >= 3, "it fell back after {}", link.upgrades_blocked());
    output_grows(&world, &id).await;
    assert_eq!(world.ask(&agent, "ping", json!({})).await["success"], true);

    link.block_upgrades(false);
    reached_over(&world, &agent, "websocket").await;
    output_grows(&world, &id).await;
    ends_whole(&world, &id).await;
}

async fn a_connection_cut_again_and_again_costs_no_byte(world: World) {
    let link = Link::to(&world.server.address()).await;
    let options = AgentOptions::with_scripts([flowing()]).with("MUSTER_WS_RETRY_MS", SOON_MS);
    let (_agent, agent) = world.agent_through(&link.url(), options).await;
    let id = started(&world, &agent).await;
    for _ in 0..5 {
        link.cut();
        output_grows(&world, &id).await;
    }
    ends_whole(&world, &id).await;
}

#[tokio::test]
async fn an_agent_behind_a_blocking_proxy_works_from_the_start() {
    let world = World::on_sqlite().await;
    let link = Link::to(&world.server.address()).await;
    link.block_upgrades(true);
    let options = AgentOptions::with_scripts([flowing()]);
    let (_agent, agent) = world.agent_through(&link.url(), options).await;
    reached_over(&world, &agent, "http").await;
    let echo = world.ask(&agent, "echo", json!({"message": "through"})).await;
    assert_eq!(echo["data"]["message"], "through");
    let id = started(&world, &agent).await;
    output_grows(&world, &id).await;
    // A cut long poll is one more attempt with the same sequence number.
    link.cut();
    output_grows(&world, &id).await;
    ends_whole(&world, &id).await;
}

#[tokio::test]
async fn an_agent_told_to_use_http_only_never_tries_a_websocket() {
    let world = World::on_sqlite().await;
    let link = Link::to(&world.server.address()).await;
    link.block_upgrades(true);
    let options = AgentOptions::named("agent").with("MUSTER_HTTP_FALLBACK", "only");
    let (_agent, agent) = world.agent_through(&link.url(), options).await;
    assert_eq!(world.ask(&agent, "ping", json!({})).await["success"], true);
    assert_eq!(link.upgrades_blocked(), 0);
}

#[tokio::test]
async fn a_silent_network_makes_the_agent_offline_and_it_returns_with_every_byte() {
    let options = ServerOptions::default().with("MUSTER_HEARTBEAT_INTERVAL_MS", 500);
    let world = World::with(options).await;
    let link = Link::to(&world.server.address()).await;
    let options = AgentOptions::with_scripts([flowing()]);
    let (_agent, agent) = world.agent_through(&link.url(), options).await;
    let id = started(&world, &agent).await;
    let shown = world.api.get(&format!("/api/agents/{agent}")).await.expect(200);
    let key = shown["key_id"].as_str().expect("a key").to_owned();

    link.silence(true);
    world.with_status(&key, "offline").await;
    assert_eq!(world.api.command(&id).await["state"], "running");
    link.silence(false);
    link.cut();
    output_grows(&world, &id).await;
    ends_whole(&world, &id).await;
    world.online(&key).await;
}

#[tokio::test]
async fn a_server_that_refuses_for_a_while_finds_the_agent_again() {
    let world = World::on_sqlite().await;
    let link = Link::to(&world.server.address()).await;
    let (_agent, agent) = world.agent_through(&link.url(), AgentOptions::named("agent")).await;
    let shown = world.api.get(&format!("/api/agents/{agent}")).await.expect(200);
    let key = shown["key_id"].as_str().expect("a key").to_owned();
    link.refuse(true);
    world.with_status(&key, "offline").await;
    link.refuse(false);
    within(PATIENCE, "the agent is back", async || {
        world.agents_of(&key).await.iter().any(|agent| agent["status"] == "online").then_some(())
    })
    .await;
}
