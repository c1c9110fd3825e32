//! Commands that end the agent: answered before it goes, never in a loop.

use muster_tests::{AgentOptions, Publisher, Script, World, eventually, on_both_databases};
use serde_json::{Value, json};

on_both_databases!(a_restarted_agent_answers_first_and_comes_back_once);

async fn send(world: &World, agent: &str, command: &str) -> Value {
    let path = format!("/api/agents/{agent}/command");
    let made = world.api.post(&path, json!({"command": command})).await.expect(202);
    world.api.finished(made["id"].as_str().expect("an id")).await
}

async fn a_restarted_agent_answers_first_and_comes_back_once(world: World) {
    let (agent, id) = world.agent(AgentOptions::named("agent").supervised()).await;
    let before = agent.agent_ids();
    let command = send(&world, &id, "restart").await;
    assert_eq!(command["state"], "succeeded", "{command}");
    let after = eventually("another process is the agent", async || {
        let ids = agent.agent_ids();
        (ids.len() == 1 && ids != before).then_some(ids)
    })
    .await;
    world.reached_over(&id, "websocket").await;
    assert_eq!(world.ask(&id, "ping", json!({})).await["success"], true);
    assert_eq!(agent.agent_ids(), after, "restarted once");
}

#[tokio::test]
async fn a_restart_lets_running_scripts_run() {
    let world = World::on_sqlite().await;
    let script = Script::counting("long", 2_000, 50, "0.05");
    let (_agent, id) = world.agent(AgentOptions::with_scripts([script]).supervised()).await;
    let run = world.api.execute(&id, "long", json!({})).await;
    world.api.output_reaches(&run, 1).await;
    assert_eq!(send(&world, &id, "restart").await["state"], "succeeded");
    let command = world.api.finished(&run).await;
    assert_eq!(command["state"], "succeeded", "{command}");
    assert!(world.api.output(&run).await == Script::counted(2_000), "the output differs");
}

#[tokio::test]
async fn a_shut_down_agent_stays_down_and_its_supervisor_ends_with_0() {
    let world = World::on_sqlite().await;
    let (mut agent, id) = world.agent(AgentOptions::named("agent").supervised()).await;
    assert_eq!(send(&world, &id, "shutdown").await["state"], "succeeded");
    assert_eq!(agent.process().ended().await.code(), Some(0));
    // Started again by hand, it answers the command from its ledger instead of obeying it twice.
    agent.resume();
    world.reached_over(&id, "websocket").await;
    assert_eq!(world.ask(&id, "ping", json!({})).await["success"], true);
}

#[tokio::test]
async fn an_agent_alone_ends_with_the_code_of_what_it_was_asked() {
    for (command, code) in [("restart", 42), ("shutdown", 0)] {
        let world = World::on_sqlite().await;
        let (mut agent, id) = world.agent(AgentOptions::named("agent")).await;
        let path = format!("/api/agents/{id}/command");
        world.api.post(&path, json!({"command": command})).await.expect(202);
        assert_eq!(agent.process().ended().await.code(), Some(code), "{command}");
    }
}

#[tokio::test]
async fn an_agent_that_nobody_could_exchange_refuses_to_be_updated() {
    let world = World::on_sqlite().await;
    let publisher = Publisher::new(&world).await;
    publisher.release(env!("CARGO_PKG_VERSION")).await;
    let (_alone, alone) = world.agent(AgentOptions::named("alone")).await;
    let (_restarted, restarted) = world.agent(AgentOptions::named("restarted").supervised()).await;
    for (agent, code) in [(&alone, "not_supervised"), (&restarted, "not_installed")] {
        for command in ["update", "redeploy"] {
            let ended = send(&world, agent, command).await;
            assert_eq!((&ended["state"], &ended["error_code"]), (&json!("rejected"), &json!(code)));
        }
    }
}

#[tokio::test]
async fn a_crashed_agent_is_started_again_and_again() {
    let world = World::on_sqlite().await;
    let options = AgentOptions::named("agent").supervised().with("MUSTER_BACKOFF_MAX_MS", 200);
    let (agent, id) = world.agent(options).await;
    for _ in 0..3 {
        agent.kill_9_beneath_the_supervisor().await;
        eventually("no agent or another one runs", async || {
            (agent.agent_ids().len() == 1).then_some(())
        })
        .await;
        world.reached_over(&id, "websocket").await;
    }
}

#[tokio::test]
async fn a_stopped_supervisor_takes_its_agent_along_and_leaves_the_script() {
    let world = World::on_sqlite().await;
    let script = Script::counting("long", 2_000, 50, "0.05");
    let (mut agent, id) = world.agent(AgentOptions::with_scripts([script]).supervised()).await;
    let run = world.api.execute(&id, "long", json!({})).await;
    world.api.output_reaches(&run, 1).await;
    agent.stop();
    assert!(agent.agent_ids().is_empty());
    assert_eq!(agent.shim_ids().len(), 1, "the script runs on");
    agent.resume();
    assert_eq!(world.api.finished(&run).await["state"], "succeeded");
    assert!(world.api.output(&run).await == Script::counted(2_000), "the output differs");
}
