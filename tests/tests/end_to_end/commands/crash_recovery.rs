//! Whoever is killed with -9 while a script runs: it starts at most once, its output is byte-exact
//! or says what is missing, and its state tells the truth.

use muster_tests::{Agent, AgentOptions, Script, World, eventually, on_both_databases, sha256};
use serde_json::{Value, json};

on_both_databases!(
    a_run_outlives_the_server,
    server_agent_and_supervisor_are_killed_in_turn_and_no_byte_is_lost,
    kills_at_any_moment_start_nothing_twice,
);

const LINES: u32 = 3_000;

/// Prints for a few seconds, with rests.
fn long() -> Script {
    Script::counting("long", LINES, 50, "0.05")
}

fn assert_whole(command: &Value, output: &[u8]) {
    let expected = Script::counted(LINES);
    assert_eq!(command["state"], "succeeded", "{command}");
    assert_eq!(command["result"]["output_sha256"], sha256(&expected), "{command}");
    assert_eq!(command["result"]["output_complete"], true, "{command}");
    assert!(output == expected, "{} bytes instead of {}", output.len(), expected.len());
}

async fn begun(world: &World, agent: &str) -> String {
    let id = world.api.execute(agent, "long", json!({})).await;
    world.api.output_reaches(&id, 1).await;
    assert_eq!(world.api.command(&id).await["state"], "running");
    id
}

async fn finished_whole(world: &World, id: &str) {
    let command = world.api.finished(id).await;
    assert_whole(&command, &world.api.output(id).await);
}

async fn a_run_outlives_the_server(mut world: World) {
    let (agent, agent_id) = world.agent(AgentOptions::with_scripts([long()])).await;
    let id = begun(&world, &agent_id).await;
    world.server.kill_9();
    assert_eq!(agent.shim_ids().len(), 1, "the job runs on");
    world.server.resume();
    world.server.ready().await;
    let state = world.api.command(&id).await["state"].clone();
    assert!(state == "running" || state == "succeeded", "{state}");
    finished_whole(&world, &id).await;
}

async fn server_agent_and_supervisor_are_killed_in_turn_and_no_byte_is_lost(mut world: World) {
    let options = AgentOptions::with_scripts([long()]).supervised();
    let (mut agent, agent_id) = world.agent(options).await;
    let id = begun(&world, &agent_id).await;

    world.server.kill_9();
    world.server.resume();
    world.server.ready().await;
    assert_eq!(world.api.command(&id).await["state"], "running");

    agent.kill_9_beneath_the_supervisor().await;
    let state = world.api.command(&id).await["state"].clone();
    assert!(state == "running" || state == "succeeded", "{state}");

    agent.kill_9();
    agent.resume();
    finished_whole(&world, &id).await;
    one_agent_answers(&world, &agent, &agent_id).await;
}

async fn one_agent_answers(world: &World, agent: &Agent, id: &str) {
    eventually("exactly one agent runs", async || (agent.agent_ids().len() == 1).then_some(()))
        .await;
    let path = format!("/api/agents/{id}/ping");
    eventually("the agent answers", async || {
        (world.api.post(&path, json!({})).await.status == 200).then_some(())
    })
    .await;
}

async fn kills_at_any_moment_start_nothing_twice(mut world: World) {
    let tally = world.site.path().join("tally");
    let script = Script::new("tally", "echo \"$N\" >> \"$TALLY\"; sleep 0.2; echo done \"$N\"")
        .taking(["N", "TALLY"]);
    let (mut agent, agent_id) = world.agent(AgentOptions::with_scripts([script])).await;
    let mut ids = Vec::new();
    for round in 0..6 {
        for _ in 0..4 {
            let n = ids.len().to_string();
            let data = json!({"parameters": {"N": n, "TALLY": tally}});
            ids.push(world.api.execute(&agent_id, "tally", data).await);
        }
        // No waiting before the kill: each round meets the commands at another point of their way.
        if round % 2 == 0 {
            agent.kill_9();
            agent.resume();
        } else {
            world.server.kill_9();
            world.server.resume();
            world.server.ready().await;
        }
    }
    for (n, id) in ids.iter().enumerate() {
        let command = world.api.finished(id).await;
        // Nobody killed a shim, so nothing that was started may be lost.
        assert_eq!(command["state"], "succeeded", "{command}");
        assert_eq!(world.api.output(id).await, format!("done {n}\n").into_bytes());
    }
    let mut starts: Vec<usize> = std::fs::read_to_string(&tally)
        .expect("the tally")
        .lines()
        .map(|line| line.parse().expect("a number"))
        .collect();
    starts.sort_unstable();
    assert_eq!(starts, (0..ids.len()).collect::<Vec<_>>(), "each was started once");
}

#[tokio::test]
async fn a_run_outlives_its_agent() {
    let world = World::on_sqlite().await;
    let (mut agent, agent_id) = world.agent(AgentOptions::with_scripts([long()])).await;
    let id = begun(&world, &agent_id).await;
    agent.kill_9();
    assert_eq!(agent.shim_ids().len(), 1, "the job runs on");
    assert_eq!(world.api.command(&id).await["state"], "running");
    agent.resume();
    finished_whole(&world, &id).await;
}

#[tokio::test]
async fn a_run_that_ends_while_its_agent_is_away_is_reported_when_it_is_back() {
    let world = World::on_sqlite().await;
    let (mut agent, agent_id) = world.agent(AgentOptions::with_scripts([long()])).await;
    let id = begun(&world, &agent_id).await;
    agent.kill_9();
    eventually("the job ends", async || agent.shim_ids().is_empty().then_some(())).await;
    assert_eq!(world.api.command(&id).await["state"], "running");
    agent.resume();
    finished_whole(&world, &id).await;
}

#[tokio::test]
async fn a_supervisor_restarts_a_killed_agent_and_the_run_goes_on() {
    let world = World::on_sqlite().await;
    let options = AgentOptions::with_scripts([long()]).supervised();
    let (agent, agent_id) = world.agent(options).await;
    let id = begun(&world, &agent_id).await;
    agent.kill_9_beneath_the_supervisor().await;
    finished_whole(&world, &id).await;
    one_agent_answers(&world, &agent, &agent_id).await;
}

#[tokio::test]
async fn a_killed_supervisor_comes_back_to_one_agent_and_the_run_goes_on() {
    let world = World::on_sqlite().await;
    let options = AgentOptions::with_scripts([long()]).supervised();
    let (mut agent, agent_id) = world.agent(options).await;
    let id = begun(&world, &agent_id).await;
    agent.kill_9();
    agent.resume();
    finished_whole(&world, &id).await;
    one_agent_answers(&world, &agent, &agent_id).await;
}

#[tokio::test]
async fn a_killed_shim_leaves_lost_and_a_prefix_and_no_process() {
    let world = World::on_sqlite().await;
    let (agent, agent_id) = world.agent(AgentOptions::with_scripts([long()])).await;
    let id = begun(&world, &agent_id).await;
    agent.kill_9_shims().await;
    let command = world.api.finished(&id).await;
    assert_eq!(command["state"], "lost", "{command}");
    let output = world.api.output(&id).await;
    let whole = Script::counted(LINES);
    assert!(!output.is_empty() && output.len() < whole.len(), "{} bytes", output.len());
    assert!(whole.starts_with(&output), "the output is no prefix");
    eventually("nothing of the job runs", async || {
        world.site.processes(agent.state_dir(), "long.sh").is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_shim_and_its_agent_killed_together_leave_lost_and_no_process() {
    let world = World::on_sqlite().await;
    let (mut agent, agent_id) = world.agent(AgentOptions::with_scripts([long()])).await;
    let id = begun(&world, &agent_id).await;
    agent.kill_9();
    agent.kill_9_shims().await;
    agent.resume();
    let command = world.api.finished(&id).await;
    assert_eq!(command["state"], "lost", "{command}");
    assert!(Script::counted(LINES).starts_with(&world.api.output(&id).await));
}
