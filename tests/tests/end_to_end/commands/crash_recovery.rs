//! Any process may be killed with -9 while a script runs: the script starts at most once, its
//! output is byte-exact or marked as incomplete, and its state is true.

use muster_tests::{Agent, AgentOptions, Fixture, Script, eventually, on_both_databases, sha256};
use serde_json::{Value, json};

on_both_databases!(
    execution_survives_the_killed_server,
    no_output_is_lost_when_server_agent_and_supervisor_are_killed_in_turn,
    kills_at_any_time_start_no_command_twice,
);

const LINES: u32 = 3_000;

/// Prints for a few seconds, with pauses.
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

async fn begun(fixture: &Fixture, agent: &str) -> String {
    let id = fixture.api.execute(agent, "long", json!({})).await;
    fixture.api.output_reaches(&id, 1).await;
    assert_eq!(fixture.api.command(&id).await["state"], "running");
    id
}

async fn finished_whole(fixture: &Fixture, id: &str) {
    let command = fixture.api.finished(id).await;
    assert_whole(&command, &fixture.api.output(id).await);
}

async fn execution_survives_the_killed_server(mut fixture: Fixture) {
    let (agent, agent_id) = fixture.agent(AgentOptions::with_scripts([long()])).await;
    let id = begun(&fixture, &agent_id).await;
    fixture.server.kill_9();
    assert_eq!(agent.shim_ids().len(), 1, "the job runs on");
    fixture.server.resume();
    fixture.server.ready().await;
    let state = fixture.api.command(&id).await["state"].clone();
    assert!(state == "running" || state == "succeeded", "{state}");
    finished_whole(&fixture, &id).await;
}

async fn no_output_is_lost_when_server_agent_and_supervisor_are_killed_in_turn(
    mut fixture: Fixture,
) {
    let options = AgentOptions::with_scripts([long()]).supervised();
    let (mut agent, agent_id) = fixture.agent(options).await;
    let id = begun(&fixture, &agent_id).await;

    fixture.server.kill_9();
    fixture.server.resume();
    fixture.server.ready().await;
    assert_eq!(fixture.api.command(&id).await["state"], "running");

    agent.kill_9_beneath_the_supervisor().await;
    let state = fixture.api.command(&id).await["state"].clone();
    assert!(state == "running" || state == "succeeded", "{state}");

    agent.kill_9();
    agent.resume();
    finished_whole(&fixture, &id).await;
    one_agent_answers(&fixture, &agent, &agent_id).await;
}

async fn one_agent_answers(fixture: &Fixture, agent: &Agent, id: &str) {
    eventually("exactly one agent runs", async || (agent.agent_ids().len() == 1).then_some(()))
        .await;
    let path = format!("/api/agents/{id}/ping");
    eventually("the agent answers", async || {
        (fixture.api.post(&path, json!({})).await.status == 200).then_some(())
    })
    .await;
}

async fn kills_at_any_time_start_no_command_twice(mut fixture: Fixture) {
    let starts_file = fixture.test_dir.path().join("starts_file");
    let script = Script::new("count", "echo \"$N\" >> \"$TALLY\"; sleep 0.2; echo done \"$N\"")
        .taking(["N", "TALLY"]);
    let (mut agent, agent_id) = fixture.agent(AgentOptions::with_scripts([script])).await;
    let mut ids = Vec::new();
    for round in 0..6 {
        for _ in 0..4 {
            let n = ids.len().to_string();
            let data = json!({"parameters": {"N": n, "TALLY": starts_file}});
            ids.push(fixture.api.execute(&agent_id, "count", data).await);
        }
        // No delay before the kill, so that each round meets the commands in another state.
        if round % 2 == 0 {
            agent.kill_9();
            agent.resume();
        } else {
            fixture.server.kill_9();
            fixture.server.resume();
            fixture.server.ready().await;
        }
    }
    for (n, id) in ids.iter().enumerate() {
        let command = fixture.api.finished(id).await;
        // No shim was killed, so nothing that was started may be lost.
        assert_eq!(command["state"], "succeeded", "{command}");
        assert_eq!(fixture.api.output(id).await, format!("done {n}\n").into_bytes());
    }
    let mut starts: Vec<usize> = std::fs::read_to_string(&starts_file)
        .expect("the starts")
        .lines()
        .map(|line| line.parse().expect("a number"))
        .collect();
    starts.sort_unstable();
    assert_eq!(starts, (0..ids.len()).collect::<Vec<_>>(), "each was started once");
}

#[tokio::test]
async fn execution_survives_its_killed_agent() {
    let fixture = Fixture::on_sqlite().await;
    let (mut agent, agent_id) = fixture.agent(AgentOptions::with_scripts([long()])).await;
    let id = begun(&fixture, &agent_id).await;
    agent.kill_9();
    assert_eq!(agent.shim_ids().len(), 1, "the job runs on");
    assert_eq!(fixture.api.command(&id).await["state"], "running");
    agent.resume();
    finished_whole(&fixture, &id).await;
}

#[tokio::test]
async fn execution_that_ends_while_its_agent_is_down_is_reported_after_its_restart() {
    let fixture = Fixture::on_sqlite().await;
    let (mut agent, agent_id) = fixture.agent(AgentOptions::with_scripts([long()])).await;
    let id = begun(&fixture, &agent_id).await;
    agent.kill_9();
    eventually("the job ends", async || agent.shim_ids().is_empty().then_some(())).await;
    assert_eq!(fixture.api.command(&id).await["state"], "running");
    agent.resume();
    finished_whole(&fixture, &id).await;
}

#[tokio::test]
async fn supervisor_restarts_a_killed_agent_and_the_execution_continues() {
    let fixture = Fixture::on_sqlite().await;
    let options = AgentOptions::with_scripts([long()]).supervised();
    let (agent, agent_id) = fixture.agent(options).await;
    let id = begun(&fixture, &agent_id).await;
    agent.kill_9_beneath_the_supervisor().await;
    finished_whole(&fixture, &id).await;
    one_agent_answers(&fixture, &agent, &agent_id).await;
}

#[tokio::test]
async fn execution_survives_a_killed_supervisor_which_restarts_with_one_agent() {
    let fixture = Fixture::on_sqlite().await;
    let options = AgentOptions::with_scripts([long()]).supervised();
    let (mut agent, agent_id) = fixture.agent(options).await;
    let id = begun(&fixture, &agent_id).await;
    agent.kill_9();
    agent.resume();
    finished_whole(&fixture, &id).await;
    one_agent_answers(&fixture, &agent, &agent_id).await;
}

#[tokio::test]
async fn killed_shim_makes_its_command_lost_with_a_prefix_of_the_output_and_no_process() {
    let fixture = Fixture::on_sqlite().await;
    let (agent, agent_id) = fixture.agent(AgentOptions::with_scripts([long()])).await;
    let id = begun(&fixture, &agent_id).await;
    agent.kill_9_shims().await;
    let command = fixture.api.finished(&id).await;
    assert_eq!(command["state"], "lost", "{command}");
    let output = fixture.api.output(&id).await;
    let whole = Script::counted(LINES);
    assert!(!output.is_empty() && output.len() < whole.len(), "{} bytes", output.len());
    assert!(whole.starts_with(&output), "the output is no prefix");
    eventually("nothing of the job runs", async || {
        fixture.test_dir.processes(agent.state_dir(), "long.sh").is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn shim_and_agent_killed_together_make_the_command_lost_and_leave_no_process() {
    let fixture = Fixture::on_sqlite().await;
    let (mut agent, agent_id) = fixture.agent(AgentOptions::with_scripts([long()])).await;
    let id = begun(&fixture, &agent_id).await;
    agent.kill_9();
    agent.kill_9_shims().await;
    agent.resume();
    let command = fixture.api.finished(&id).await;
    assert_eq!(command["state"], "lost", "{command}");
    assert!(Script::counted(LINES).starts_with(&fixture.api.output(&id).await));
}
