//! `muster-agent status` for the owner of a host, and ending executions on the host.

use std::fs;
use std::path::Path;

use muster_tests::{
    AgentOptions, Fixture, ProgramOutput, Script, agent_program, eventually, eventually_shown,
};
use serde_json::{Value, json};

/// `muster-agent status` of this directory: its exit code and its JSON.
async fn status(state: &Path) -> (i32, Value) {
    let said = agent_program(state, &["status", "--json"], &[]).await;
    let value = serde_json::from_slice(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"));
    (said.code.expect("an exit code"), value)
}

/// Its output for people.
async fn human(state: &Path, code: i32) -> String {
    agent_program(state, &["status"], &[]).await.expect(code)
}

async fn end_executions(state: &Path, wait_s: &str) -> ProgramOutput {
    agent_program(state, &["end-executions", "--wait-s", wait_s], &[]).await
}

async fn expect_status(state: &Path, code: i32, what: &str) -> Value {
    eventually_shown(what, async || {
        let (found, value) = status(state).await;
        if found == code { Ok(value) } else { Err((found, value)) }
    })
    .await
}

#[tokio::test]
async fn status_without_an_agent_reports_that_and_creates_no_files() {
    let test_dir = muster_tests::TestDir::new();
    let state = test_dir.path().join("nowhere");
    let (code, value) = status(&state).await;
    assert_eq!((code, &value["state"]), (4, &json!("stopped")), "{value}");
    assert!(human(&state, 4).await.contains("not running\n"));
    assert_eq!(end_executions(&state, "30").await.expect(0), "no execution was running\n");
    assert!(!state.exists(), "a look makes nothing");
    let empty = test_dir.folder("empty");
    assert_eq!(status(&empty).await.0, 4);
    assert_eq!(fs::read_dir(&empty).expect("look").count(), 0, "a look makes nothing");
}

#[tokio::test]
async fn status_changes_from_connected_to_disconnected_to_stopped() {
    let mut fixture = Fixture::on_sqlite().await;
    let script = Script::new("wait", "echo begun; while :; do sleep 0.1; done");
    let (mut agent, id) = fixture.agent(AgentOptions::with_scripts([script])).await;
    let state = agent.state_dir().to_owned();
    let shown = expect_status(&state, 0, "the agent says that it is connected").await;
    assert_eq!(shown["agent"]["agent_id"], id, "{shown}");
    assert_eq!(shown["agent"]["transport"], "websocket", "{shown}");
    assert_eq!(shown["executions"], json!([]), "{shown}");
    assert!(shown["agent"]["server_url"].as_str().is_some_and(|url| url.starts_with("ws://")));
    assert!(!shown.to_string().contains("mst_agent_"), "{shown}");

    let run = fixture.api.execute(&id, "wait", json!({})).await;
    fixture.api.output_reaches(&run, 6).await;
    let (_, shown) = status(&state).await;
    assert_eq!(shown["executions"][0]["command_id"], run, "{shown}");
    assert_eq!(shown["executions"][0]["script"], "wait", "{shown}");
    assert!(shown["executions"][0]["started_at"].is_string(), "{shown}");
    let text = human(&state, 0).await;
    assert!(text.contains(&format!("{run} (wait) since 2")), "{text}");
    assert!(text.contains("over websocket"), "{text}");

    fixture.server.stop();
    let shown = expect_status(&state, 3, "the agent says that it is away").await;
    assert_eq!(shown["state"], "disconnected", "{shown}");
    assert_eq!(shown["agent"]["connected_since"], Value::Null, "{shown}");
    let since = shown["agent"]["last_error"]["since"].clone();
    eventually_shown("the newest reason is told, and the first instant stays", async || {
        let (_, shown) = status(&state).await;
        let error = &shown["agent"]["last_error"];
        let is_newest =
            error["message"].as_str().is_some_and(|text| text.contains("failed to connect"));
        if is_newest && error["since"] == since { Ok(()) } else { Err(shown) }
    })
    .await;
    assert!(human(&state, 3).await.contains("connected   no, since"));
    fixture.server.resume();
    expect_status(&state, 0, "the agent is connected again").await;

    // The last status of an agent that was killed does not count as a running agent.
    agent.kill_9();
    let shown = expect_status(&state, 4, "nothing holds the lock any more").await;
    assert_eq!(shown["state"], "stopped", "{shown}");
    assert_eq!(shown["executions"][0]["command_id"], run, "its jobs run on: {shown}");
    assert!(human(&state, 4).await.contains("not running"));

    assert_eq!(end_executions(&state, "30").await.expect(0), format!("ended {run} (wait)\n"));
    assert_eq!(status(&state).await.1["executions"], json!([]));
    agent.resume();
    let ended = fixture.api.finished(&run).await;
    assert_eq!(ended["state"], "cancelled");
    assert_eq!(ended["error_code"], "ended_by_host_owner");
    assert_eq!(ended["error"], "the script was ended on the host by its owner");
    assert_eq!(fixture.api.output(&run).await, b"begun\n");
}

#[tokio::test]
async fn orphans_of_a_vanished_shim_are_killed_and_reported_lost_by_the_next_agent() {
    let fixture = Fixture::on_sqlite().await;
    let script = Script::new("long", "setsid sleep 600 & echo begun; sleep 600");
    let (mut agent, id) = fixture.agent(AgentOptions::with_scripts([script])).await;
    let run = fixture.api.execute(&id, "long", json!({})).await;
    fixture.api.output_reaches(&run, 6).await;
    agent.stop();
    agent.kill_9_shims().await;
    let state = agent.state_dir().to_owned();
    assert_eq!(end_executions(&state, "30").await.expect(0), format!("ended {run} (long)\n"));
    let left = fixture.test_dir.processes(&state, "sleep 600");
    assert!(left.is_empty(), "{left:?}");
    agent.resume();
    assert_eq!(fixture.api.finished(&run).await["state"], "lost");
}

#[tokio::test]
async fn status_shows_restarts_and_the_last_exit() {
    let fixture = Fixture::on_sqlite().await;
    let options = AgentOptions::named("agent").supervised().with("MUSTER_BACKOFF_MAX_MS", 200);
    let (agent, _) = fixture.agent(options).await;
    expect_status(agent.state_dir(), 0, "connected").await;
    agent.kill_9_beneath_the_supervisor().await;
    eventually("the restart is told", async || {
        let (code, shown) = status(agent.state_dir()).await;
        let supervisor = &shown["supervisor"];
        let is_told = supervisor["restarts"] == 1 && supervisor["last_exit"]["signal"] == 9;
        (code == 0 && is_told).then_some(())
    })
    .await;
    let text = human(agent.state_dir(), 0).await;
    assert!(text.contains("restarts    1\n") && text.contains("signal 9 at 2"), "{text}");
}

#[tokio::test]
async fn ending_executions_beside_a_running_agent_reports_them_at_once() {
    let fixture = Fixture::on_sqlite().await;
    let scripts = [
        Script::new("wait", "setsid sleep 600 & echo begun; sleep 600"),
        Script::new("stubborn", "trap '' TERM; echo begun; while :; do sleep 1; done"),
    ];
    let (agent, id) = fixture.agent(AgentOptions::with_scripts(scripts)).await;
    let mut runs = Vec::new();
    for script in ["wait", "stubborn"] {
        let run = fixture.api.execute(&id, script, json!({})).await;
        fixture.api.output_reaches(&run, 6).await;
        runs.push(run);
    }
    let hasty = end_executions(agent.state_dir(), "0").await.expect(1);
    assert!(hasty.contains(&format!("still running {} (stubborn)", runs[1])), "{hasty}");
    end_executions(agent.state_dir(), "30").await.expect(0);
    for run in &runs {
        let command = fixture.api.finished(run).await;
        assert_eq!(command["state"], "cancelled", "{command}");
        assert_eq!(command["error_code"], "ended_by_host_owner", "{command}");
    }
    assert!(fixture.test_dir.processes(agent.state_dir(), "sleep 600").is_empty());
}
