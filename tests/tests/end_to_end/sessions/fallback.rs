//! Networks that block, break or go silent while output flows: no byte is lost or duplicated.

use std::time::Duration;

use muster_tests::{
    AgentOptions, Fixture, JsonFields as _, Link, Script, ServerOptions, on_both_databases, pass,
    sha256, within,
};
use serde_json::json;

on_both_databases!(
    switch_of_transport_during_output_is_no_outage_and_loses_no_byte,
    repeatedly_cut_connection_loses_no_byte,
);

/// Longer than any backoff in these tests.
const PATIENCE: Duration = Duration::from_secs(150);
/// Short enough that a test can wait for the return to the WebSocket.
const SOON_MS: u32 = 500;

/// Prints until it is told to stop, so that output flows during all faults.
fn flowing() -> Script {
    let body = "i=0\nwhile [ ! -e \"$STOP\" ]; do\n  i=$((i+1))\n  \
                printf 'line %08d of the output\\n' $i\n  sleep 0.005\ndone\n";
    Script::new("flowing", body).taking(["STOP"])
}

async fn started(fixture: &Fixture, agent: &str) -> String {
    let stop = fixture.test_dir.path().join("stop");
    let id = fixture.api.execute(agent, "flowing", json!({"parameters": {"STOP": stop}})).await;
    fixture.api.output_reaches(&id, 1).await;
    id
}

async fn output_grows(fixture: &Fixture, id: &str) {
    let before = fixture.api.command(id).await.number("output_bytes");
    within(PATIENCE, "more output is committed", async || {
        let command = fixture.api.command(id).await;
        assert_eq!(command["state"], "running", "{command}");
        (command["output_bytes"].as_u64()? > before).then_some(())
    })
    .await;
}

/// Ends the script, and compares the server's output with what the script printed.
async fn ends_whole(fixture: &Fixture, id: &str) {
    std::fs::write(fixture.test_dir.path().join("stop"), "").expect("stop the script");
    let command = fixture.api.finished(id).await;
    assert_eq!(command["state"], "succeeded", "{command}");
    let output = fixture.api.output(id).await;
    let line_bytes = Script::counted(1).len();
    let lines = u32::try_from(output.len() / line_bytes).expect("a small number");
    assert!(output == Script::counted(lines), "the output of {lines} lines differs");
    assert_eq!(command["result"]["output_sha256"], sha256(&output), "{command}");
    assert_eq!(command["result"]["output_complete"], true, "{command}");
}

/// The agent never counts as offline while it switches to this transport.
async fn switches_to(fixture: &Fixture, agent: &str, transport: &str) {
    let path = format!("/api/agents/{agent}");
    within(PATIENCE, &format!("the agent switches to {transport}"), async || {
        let shown = fixture.api.get(&path).await.expect(200);
        assert_eq!(shown["status"], "online", "{shown}");
        (shown["transport"] == transport).then_some(())
    })
    .await;
    let events = fixture.api.get(&format!("{path}/events")).await.expect(200);
    let count = |kind: &str| events.to_string().matches(kind).count();
    assert_eq!((count("\"online\""), count("\"offline\"")), (1, 0), "{events}");
}

async fn reached_over(fixture: &Fixture, agent: &str, transport: &str) {
    let path = format!("/api/agents/{agent}");
    within(PATIENCE, &format!("the agent is reached over {transport}"), async || {
        let shown = fixture.api.get(&path).await.expect(200);
        (shown["status"] == "online" && shown["transport"] == transport).then_some(())
    })
    .await;
}

async fn switch_of_transport_during_output_is_no_outage_and_loses_no_byte(fixture: Fixture) {
    let link = Link::to(&fixture.server.address()).await;
    let options = AgentOptions::with_scripts([flowing()]).with("MUSTER_WS_RETRY_MS", SOON_MS);
    let (_agent, agent) = fixture.agent_through(&link.url(), options).await;
    let id = started(&fixture, &agent).await;

    link.block_upgrades(true);
    switches_to(&fixture, &agent, "http").await;
    assert!(link.upgrades_blocked() > 0);
    output_grows(&fixture, &id).await;
    assert_eq!(fixture.ask(&agent, "ping", json!({})).await["success"], true);

    link.block_upgrades(false);
    switches_to(&fixture, &agent, "websocket").await;
    output_grows(&fixture, &id).await;
    ends_whole(&fixture, &id).await;
}

async fn repeatedly_cut_connection_loses_no_byte(fixture: Fixture) {
    let link = Link::to(&fixture.server.address()).await;
    let options = AgentOptions::with_scripts([flowing()]).with("MUSTER_WS_RETRY_MS", SOON_MS);
    let (_agent, agent) = fixture.agent_through(&link.url(), options).await;
    let id = started(&fixture, &agent).await;
    for _ in 0..5 {
        link.cut();
        output_grows(&fixture, &id).await;
    }
    ends_whole(&fixture, &id).await;
}

#[tokio::test]
async fn agent_behind_a_blocking_proxy_works_from_the_start() {
    let fixture = Fixture::on_sqlite().await;
    let link = Link::to(&fixture.server.address()).await;
    link.block_upgrades(true);
    let options = AgentOptions::with_scripts([flowing()]);
    let (_agent, agent) = fixture.agent_through(&link.url(), options).await;
    reached_over(&fixture, &agent, "http").await;
    let echo = fixture.ask(&agent, "echo", json!({"message": "through"})).await;
    assert_eq!(echo["data"]["message"], "through");
    let id = started(&fixture, &agent).await;
    output_grows(&fixture, &id).await;
    // A cut long poll is one more attempt with the same sequence number.
    link.cut();
    output_grows(&fixture, &id).await;
    ends_whole(&fixture, &id).await;
}

#[tokio::test]
async fn agent_learns_how_long_a_proxy_lets_it_be_quiet() {
    let fixture = Fixture::on_sqlite().await;
    let link = Link::to(&fixture.server.address()).await;
    let (agent, id) = fixture.agent_through(&link.url(), AgentOptions::named("agent")).await;
    link.cut_quiet_after(Duration::from_secs(4));
    within(PATIENCE, "the agent has learned it", async || {
        // It notices after the cut, before it connects again.
        let log = agent.log();
        let (_, after) = log.split_once("sending signs of life more often")?;
        after.contains("registered").then_some(())
    })
    .await;
    reached_over(&fixture, &id, "websocket").await;
    let connections = link.connections();
    // Much longer than a quiet connection lives: only signs of life keep it.
    pass(Duration::from_secs(13)).await;
    assert_eq!(link.connections(), connections, "{}", agent.log());
    assert_eq!(fixture.ask(&id, "ping", json!({})).await["success"], true);
}

#[tokio::test]
async fn agent_set_to_http_never_tries_a_websocket() {
    let fixture = Fixture::on_sqlite().await;
    let link = Link::to(&fixture.server.address()).await;
    link.block_upgrades(true);
    let options = AgentOptions::named("agent").with("MUSTER_HTTP_FALLBACK", "only");
    let (_agent, agent) = fixture.agent_through(&link.url(), options).await;
    assert_eq!(fixture.ask(&agent, "ping", json!({})).await["success"], true);
    assert_eq!(link.upgrades_blocked(), 0);
}

#[tokio::test]
async fn silent_network_makes_the_agent_offline_and_loses_no_byte() {
    let options = ServerOptions::default().with("MUSTER_HEARTBEAT_INTERVAL_MS", 500);
    let fixture = Fixture::with(options).await;
    let link = Link::to(&fixture.server.address()).await;
    let options = AgentOptions::with_scripts([flowing()]);
    let (_agent, agent) = fixture.agent_through(&link.url(), options).await;
    let id = started(&fixture, &agent).await;
    let shown = fixture.api.get(&format!("/api/agents/{agent}")).await.expect(200);
    let key = shown.text("key_id").to_owned();

    link.silence(true);
    fixture.with_status(&key, "offline").await;
    assert_eq!(fixture.api.command(&id).await["state"], "running");
    link.silence(false);
    link.cut();
    output_grows(&fixture, &id).await;
    ends_whole(&fixture, &id).await;
    fixture.online(&key).await;
}

#[tokio::test]
async fn agent_reconnects_to_a_server_that_refused_for_a_while() {
    let fixture = Fixture::on_sqlite().await;
    let link = Link::to(&fixture.server.address()).await;
    let (_agent, agent) = fixture.agent_through(&link.url(), AgentOptions::named("agent")).await;
    let shown = fixture.api.get(&format!("/api/agents/{agent}")).await.expect(200);
    let key = shown.text("key_id").to_owned();
    link.refuse(true);
    fixture.with_status(&key, "offline").await;
    link.refuse(false);
    within(PATIENCE, "the agent is back", async || {
        fixture.agents_of(&key).await.iter().any(|agent| agent["status"] == "online").then_some(())
    })
    .await;
}
