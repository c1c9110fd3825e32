//! Commands that end the agent: answered before it goes, never in a loop.

use muster_tests::{
    AgentOptions, Fixture, JsonFields as _, Publisher, Script, eventually, on_both_databases,
};
use serde_json::{Value, json};

on_both_databases!(restarted_agent_answers_first_and_reconnects_once);

async fn send(fixture: &Fixture, agent: &str, command: &str) -> Value {
    let path = format!("/api/agents/{agent}/command");
    let made = fixture.api.post(&path, json!({"command": command})).await.expect(202);
    fixture.api.finished(made.id()).await
}

async fn restarted_agent_answers_first_and_reconnects_once(fixture: Fixture) {
    let (agent, id) = fixture.agent(AgentOptions::named("agent").supervised()).await;
    let before = agent.agent_ids();
    let command = send(&fixture, &id, "restart").await;
    assert_eq!(command["state"], "succeeded", "{command}");
    let after = eventually("another process is the agent", async || {
        let ids = agent.agent_ids();
        (ids.len() == 1 && ids != before).then_some(ids)
    })
    .await;
    fixture.reached_over(&id, "websocket").await;
    assert_eq!(fixture.ask(&id, "ping", json!({})).await["success"], true);
    assert_eq!(agent.agent_ids(), after, "restarted once");
}

#[tokio::test]
async fn restart_lets_running_scripts_finish() {
    let fixture = Fixture::on_sqlite().await;
    let script = Script::counting("long", 2_000, 50, "0.05");
    let (_agent, id) = fixture.agent(AgentOptions::with_scripts([script]).supervised()).await;
    let run = fixture.api.execute(&id, "long", json!({})).await;
    fixture.api.output_reaches(&run, 1).await;
    assert_eq!(send(&fixture, &id, "restart").await["state"], "succeeded");
    let command = fixture.api.finished(&run).await;
    assert_eq!(command["state"], "succeeded", "{command}");
    assert!(fixture.api.output(&run).await == Script::counted(2_000), "the output differs");
}

#[tokio::test]
async fn shut_down_agent_stays_down_and_its_supervisor_exits_with_0() {
    let fixture = Fixture::on_sqlite().await;
    let (mut agent, id) = fixture.agent(AgentOptions::named("agent").supervised()).await;
    assert_eq!(send(&fixture, &id, "shutdown").await["state"], "succeeded");
    assert_eq!(agent.process().ended().await.code(), Some(0));
    // Restarted by hand, it answers the command from its ledger instead of obeying it again.
    agent.resume();
    fixture.reached_over(&id, "websocket").await;
    assert_eq!(fixture.ask(&id, "ping", json!({})).await["success"], true);
}

#[tokio::test]
async fn unsupervised_agent_exits_with_the_code_of_the_command() {
    for (command, code) in [("restart", 42), ("shutdown", 0)] {
        let fixture = Fixture::on_sqlite().await;
        let (mut agent, id) = fixture.agent(AgentOptions::named("agent")).await;
        let path = format!("/api/agents/{id}/command");
        fixture.api.post(&path, json!({"command": command})).await.expect(202);
        assert_eq!(agent.process().ended().await.code(), Some(code), "{command}");
    }
}

#[tokio::test]
async fn unsupervised_agent_refuses_updates() {
    let fixture = Fixture::on_sqlite().await;
    let publisher = Publisher::new(&fixture).await;
    publisher.release(env!("CARGO_PKG_VERSION")).await;
    let (_alone, alone) = fixture.agent(AgentOptions::named("alone")).await;
    let (_restarted, restarted) =
        fixture.agent(AgentOptions::named("restarted").supervised()).await;
    for (agent, code) in [(&alone, "not_supervised"), (&restarted, "not_installed")] {
        for command in ["update", "redeploy"] {
            let ended = send(&fixture, agent, command).await;
            assert_eq!((&ended["state"], &ended["error_code"]), (&json!("rejected"), &json!(code)));
        }
    }
}

#[tokio::test]
async fn crashed_agent_is_restarted_every_time() {
    let fixture = Fixture::on_sqlite().await;
    let options = AgentOptions::named("agent").supervised().with("MUSTER_BACKOFF_MAX_MS", 200);
    let (agent, id) = fixture.agent(options).await;
    for _ in 0..3 {
        agent.kill_9_beneath_the_supervisor().await;
        eventually("no agent or another one runs", async || {
            (agent.agent_ids().len() == 1).then_some(())
        })
        .await;
        fixture.reached_over(&id, "websocket").await;
    }
}

#[tokio::test]
async fn stopped_supervisor_stops_its_agent_and_not_the_script() {
    let fixture = Fixture::on_sqlite().await;
    let script = Script::counting("long", 2_000, 50, "0.05");
    let (mut agent, id) = fixture.agent(AgentOptions::with_scripts([script]).supervised()).await;
    let run = fixture.api.execute(&id, "long", json!({})).await;
    fixture.api.output_reaches(&run, 1).await;
    agent.stop();
    assert!(agent.agent_ids().is_empty());
    assert_eq!(agent.shim_ids().len(), 1, "the script runs on");
    agent.resume();
    assert_eq!(fixture.api.finished(&run).await["state"], "succeeded");
    assert!(fixture.api.output(&run).await == Script::counted(2_000), "the output differs");
}
