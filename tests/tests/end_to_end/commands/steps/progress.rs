//! How far the steps are, while they run and after their execution was lost.

use std::fs;

use muster_tests::{Fixture, JsonFields as _, eventually_shown, on_both_databases};
use serde_json::{Value, json};

use super::{agent, execution, shell, states};

on_both_databases!(
    the_step_that_runs_is_shown_also_after_the_agent_was_killed,
    ends_of_steps_that_are_known_stay_if_the_execution_is_lost,
);

/// Starts three steps, of which the second one waits for this file.
async fn start(fixture: &Fixture, agent: &str, gate: &str) -> String {
    let wait = format!("echo two; while [ ! -e {gate} ]; do sleep 0.05; done");
    let steps = json!([
        {"name": "First", "script": "deploy", "parameters": {"WHAT": "it"}},
        {"name": "Second", "argv": ["sh", "-c", wait]},
        {"script": "deploy"},
    ]);
    let made = fixture.api.try_execute(agent, json!({ "steps": steps })).await.expect(202);
    made.id().to_owned()
}

async fn at_the_second(fixture: &Fixture, run: &str) -> Value {
    let path = format!("/api/executions/{run}");
    eventually_shown("the second step runs", async || {
        let shown = fixture.api.get(&path).await.expect(200);
        if states(&shown) == ["succeeded", "running", "-"] { Ok(shown) } else { Err(shown) }
    })
    .await
}

async fn the_step_that_runs_is_shown_also_after_the_agent_was_killed(fixture: Fixture) {
    let (mut agent, id) = agent(&fixture, shell()).await;
    let gate = fixture.test_dir.path().join("gate");
    let run = start(&fixture, &id, gate.to_str().expect("text")).await;
    let shown = at_the_second(&fixture, &run).await;
    assert!(shown.text("explanation").contains("now step 2 of 3 (Second)"), "{shown}");
    let (first, second) = (&shown["steps"][0], &shown["steps"][1]);
    assert!(first["duration_ms"].is_u64() && first["exit_code"] == 0, "{shown}");
    assert!(second["started_at"].is_string() && second["duration_ms"].is_null(), "{shown}");
    assert_eq!(second["output_from_bytes"], first["output_to_bytes"], "{shown}");
    let cli = fixture.cli().await;
    let table = cli.run(&["executions"]).await.expect(0);
    assert!(table.contains("running 2/3"), "{table}");
    let table = cli.run(&["executions", "show", &run]).await.expect(0);
    assert!(table.contains("Second") && table.contains("running"), "{table}");

    // Another process of the agent reports it again.
    agent.kill_9();
    fixture.server.query("UPDATE commands SET step_progress = NULL");
    agent.resume();
    at_the_second(&fixture, &run).await;
    fs::write(&gate, "").expect("written");
    let ended = execution(&fixture.api, &run).await;
    assert_eq!(states(&ended), ["succeeded"; 3], "{ended}");
}

async fn ends_of_steps_that_are_known_stay_if_the_execution_is_lost(fixture: Fixture) {
    let (mut agent, id) = agent(&fixture, shell()).await;
    let run = start(&fixture, &id, "/nowhere").await;
    let before = at_the_second(&fixture, &run).await;
    agent.cut_power();
    agent.resume();
    let lost = execution(&fixture.api, &run).await;
    assert_eq!(lost["state"], "lost", "{lost}");
    assert_eq!(states(&lost), ["succeeded", "unknown", "unknown"], "{lost}");
    assert_eq!(lost["steps"][0], before["steps"][0]);
    let cli = fixture.cli().await;
    let said = cli.run(&["verify", &run]).await.expect(0);
    assert!(said.contains("verified: agent"), "{said}");

    // The same if the host reports nothing more, until it does.
    let gate = fixture.test_dir.path().join("gate");
    let run = start(&fixture, &id, gate.to_str().expect("text")).await;
    at_the_second(&fixture, &run).await;
    agent.stop();
    fixture.server.query("UPDATE commands SET lost_after_ms = 1 WHERE finished_at IS NULL");
    let lost = execution(&fixture.api, &run).await;
    assert_eq!(lost["state"], "lost", "{lost}");
    assert_eq!(states(&lost), ["succeeded", "unknown", "unknown"], "{lost}");
    fs::write(&gate, "").expect("written");
    agent.resume();
    let late = eventually_shown("the late report", async || {
        let shown = fixture.api.get(&format!("/api/executions/{run}")).await.expect(200);
        if shown["late_result"].is_null() { Err(shown) } else { Ok(shown) }
    })
    .await;
    assert_eq!((&late["state"], states(&late)), (&json!("lost"), vec!["succeeded"; 3]), "{late}");
}
