//! Scripts with a trigger, called by schedules: the trigger decides whether main runs, and their data is
//! changed once by each call, however processes are killed.

use std::fs;
use std::path::{Path, PathBuf};

use muster_tests::{Agent, Fixture, JsonFields as _, eventually, on_both_databases};
use serde_json::{Value, json};

use super::{agent_with_policy, output};

on_both_databases!(
    functions_in_python_are_called_with_data_that_lasts,
    kills_between_trigger_and_main_lose_and_double_nothing,
    a_trigger_that_fails_or_hangs_is_visible_and_stops_no_other,
    of_two_calls_at_once_one_changes_the_data,
);

/// As a user of a small script server writes it.
const FUNCTIONS: &str = r#"
def trigger(data):
    data["calls"] = data.get("calls", 0) + 1
    print("trigger", data["calls"])
    return data["calls"] % 2 == 0

def main(data):
    data.setdefault("runs", []).append(data["calls"])
    print("main", data["runs"])
"#;

/// Counts in its data, and waits in each part for a file.
fn waiting(folder: &Path) -> String {
    format!(
        r#"echo "$MUSTER_PART" "$MUSTER_FIRST_CALL" "$(cat "$MUSTER_DATA_FILE")"
until [ -e "{}/$MUSTER_PART" ]; do sleep 0.02; done
[ "$MUSTER_PART" = main ] || {{ echo run >"$MUSTER_DECISION_FILE"; exit 0; }}
n=$(tr -dc 0-9 <"$MUSTER_DATA_FILE")
echo "{{\"n\": $((${{n:-0}} + 1))}}" >"$MUSTER_DATA_FILE"
"#,
        folder.display()
    )
}

async fn save(fixture: &Fixture, name: &str, interpreter: &str, body: &str, timeout_ms: u64) {
    let script = json!({"name": name, "body": body, "interpreter": interpreter,
        "has_trigger": true, "timeout_ms": timeout_ms});
    fixture.api.post("/api/scripts", script).await.expect(201);
}

async fn schedule(fixture: &Fixture, script: &str, every_ms: u64) -> String {
    let body = json!({"name": script, "rule": {"every_ms": every_ms}, "overlap": "queue",
        "job": {"script": format!("library:{script}"), "target": {"expression": "all"}}});
    fixture.api.post("/api/schedules", body).await.expect(201).id().to_owned()
}

/// Runs the schedule now, and returns its only execution.
async fn call(fixture: &Fixture, schedule: &str, body: Value) -> String {
    let path = format!("/api/schedules/{schedule}/run");
    let answer = fixture.api.post(&path, body).await.expect(202);
    let path = format!("/api/jobs/{}/executions", answer.text("job_id"));
    fixture.api.get(&path).await.expect(200)["items"][0].id().to_owned()
}

async fn states(fixture: &Fixture, schedule: &str) -> Vec<Value> {
    let path = format!("/api/schedules/{schedule}/trigger-states");
    fixture.api.get(&path).await.expect(200).list("items").to_vec()
}

async fn state(fixture: &Fixture, schedule: &str) -> Value {
    states(fixture, schedule).await.pop().expect("a state")
}

async fn outcome(fixture: &Fixture, schedule: &str, execution: &str) -> (Value, Value) {
    let ended = fixture.api.finished(execution).await;
    (ended["state"].clone(), state(fixture, schedule).await["last_outcome"].clone())
}

async fn host(fixture: &Fixture) -> (Agent, PathBuf) {
    let (agent, _) = agent_with_policy(fixture, json!({"allow": "library"})).await;
    (agent, fixture.test_dir.folder("gates"))
}

fn open_gate(folder: &Path, part: &str) {
    fs::write(folder.join(part), "").expect("written");
}

async fn functions_in_python_are_called_with_data_that_lasts(mut fixture: Fixture) {
    let (_agent, _) = host(&fixture).await;
    save(&fixture, "watch", "python", FUNCTIONS, 60_000).await;
    let id = schedule(&fixture, "watch", 1_000).await;
    assert_eq!(states(&fixture, &id).await, [] as [Value; 0]);
    let reached = async |fixture: &Fixture, runs: Value| {
        eventually("main has run at every second call", async || {
            let state = states(fixture, &id).await.pop()?;
            (state["data"]["runs"] == runs).then_some(state)
        })
        .await
    };
    let first = reached(&fixture, json!([2])).await;
    assert_eq!(first["is_active"], true);
    assert_eq!(first["interval_ms"], 1_000);
    assert_eq!(first["is_first_call"], false);
    // The data lasts beyond the processes.
    fixture.server.kill_9();
    fixture.server.resume();
    fixture.server.ready().await;
    reached(&fixture, json!([2, 4])).await;
    fixture.api.post(&format!("/api/schedules/{id}/disable"), json!({})).await.expect(200);
    let before = eventually("no call is open", async || {
        let state = state(&fixture, &id).await;
        let calls = state["data"]["calls"].as_u64()?;
        (state["last_state"] == "succeeded" && calls == state["data_version"]).then_some(state)
    })
    .await;
    assert_eq!(before["call_count"], before["data_version"], "each call has changed the data once");
    assert_eq!(before["is_active"], false);
    // Main runs without the trigger if it is forced.
    let forced = call(&fixture, &id, json!({"force": true})).await;
    let (ended, outcome) = outcome(&fixture, &id, &forced).await;
    assert_eq!((ended, outcome), (json!("succeeded"), json!("main_succeeded")));
    let text = output(&fixture, &forced).await;
    assert!(text.starts_with("main [2, 4") && !text.contains("trigger"), "{text}");
    let after = state(&fixture, &id).await;
    assert_eq!(after["data"]["calls"], before["data"]["calls"]);
    let cli = fixture.cli().await;
    let shown = cli.run(&["schedules", "trigger-states", "watch"]).await;
    assert!(String::from_utf8_lossy(&shown.stdout).contains("main_succeeded"), "{shown:?}");
}

async fn kills_between_trigger_and_main_lose_and_double_nothing(mut fixture: Fixture) {
    let (mut agent, gates) = host(&fixture).await;
    save(&fixture, "count", "sh", &waiting(&gates), 600_000).await;
    let id = schedule(&fixture, "count", 86_400_000).await;
    let execution = call(&fixture, &id, json!({})).await;
    fixture.api.output_reaches(&execution, 1).await;
    // The trigger ends while neither agent nor server runs, and main begins.
    fixture.server.kill_9();
    agent.kill_9();
    open_gate(&gates, "trigger");
    fixture.server.resume();
    fixture.server.ready().await;
    agent.resume();
    let begins = "trigger true {}\nmain true {}\n";
    fixture.api.output_reaches(&execution, begins.len() as u64).await;
    assert_eq!(output(&fixture, &execution).await, begins);
    assert_eq!(state(&fixture, &id).await["data_version"], 0);
    fixture.server.kill_9();
    agent.kill_9();
    open_gate(&gates, "main");
    eventually("the call has ended without an agent", async || {
        agent.shim_ids().is_empty().then_some(())
    })
    .await;
    agent.resume();
    fixture.server.resume();
    fixture.server.ready().await;
    assert_eq!(fixture.api.finished(&execution).await["state"], "succeeded");
    let known = state(&fixture, &id).await;
    assert_eq!((&known["data"], &known["data_version"]), (&json!({"n": 1}), &json!(1)));
    assert_eq!(
        (&known["call_count"], &known["last_outcome"]),
        (&json!(1), &json!("main_succeeded"))
    );

    // A call that is lost changes nothing, and the next one starts from the same data.
    fs::remove_file(gates.join("main")).expect("removed");
    let lost = call(&fixture, &id, json!({})).await;
    fixture.api.output_reaches(&lost, "trigger false {\"n\":1}\nmain".len() as u64).await;
    agent.kill_9();
    agent.kill_9_shims().await;
    agent.resume();
    assert_eq!(fixture.api.finished(&lost).await["state"], "lost");
    let after = state(&fixture, &id).await;
    assert_eq!((&after["data"], &after["data_version"]), (&json!({"n": 1}), &json!(1)));
    assert_eq!((&after["call_count"], &after["last_state"]), (&json!(2), &json!("lost")));
    open_gate(&gates, "main");
    let next = call(&fixture, &id, json!({})).await;
    assert_eq!(fixture.api.finished(&next).await["state"], "succeeded");
    assert_eq!(state(&fixture, &id).await["data"], json!({"n": 2}));
}

async fn a_trigger_that_fails_or_hangs_is_visible_and_stops_no_other(fixture: Fixture) {
    let (_agent, gates) = host(&fixture).await;
    save(
        &fixture,
        "fails",
        "python",
        "def trigger(data):\n    raise ValueError('no')\ndef main(data): pass\n",
        60_000,
    )
    .await;
    save(&fixture, "hangs", "sh", "echo $MUSTER_PART; until false; do sleep 0.1; done", 1_000)
        .await;
    save(&fixture, "spoils", "sh", "echo '{' >\"$MUSTER_DATA_FILE\"", 60_000).await;
    save(&fixture, "count", "sh", &waiting(&gates), 60_000).await;
    open_gate(&gates, "trigger");
    open_gate(&gates, "main");
    let mut calls = Vec::new();
    for name in ["hangs", "fails", "spoils", "count"] {
        let id = schedule(&fixture, name, 86_400_000).await;
        let execution = call(&fixture, &id, json!({})).await;
        calls.push((id, execution));
    }
    let mut found = Vec::new();
    for (id, execution) in calls.iter().rev() {
        found.push(outcome(&fixture, id, execution).await);
    }
    let expected = [
        ("succeeded", "main_succeeded"),
        ("succeeded", "data_refused"),
        ("failed", "trigger_failed"),
        ("timed_out", "trigger_timed_out"),
    ];
    assert_eq!(found, expected.map(|(state, outcome)| (json!(state), json!(outcome))));
    let (id, execution) = &calls[1];
    let ended = fixture.api.finished(execution).await;
    assert_eq!(ended["error_code"], "trigger_failed", "{ended}");
    assert!(output(&fixture, execution).await.contains("ValueError: no"));
    assert_eq!(state(&fixture, id).await["data_version"], 0);
    let (id, _) = &calls[2];
    assert_eq!(state(&fixture, id).await["data"], json!({}), "what is no JSON is not stored");
}

async fn of_two_calls_at_once_one_changes_the_data(fixture: Fixture) {
    let (_agent, gates) = host(&fixture).await;
    save(&fixture, "count", "sh", &waiting(&gates), 600_000).await;
    let id = schedule(&fixture, "count", 86_400_000).await;
    open_gate(&gates, "trigger");
    let begins = "trigger true {}\nmain true {}\n";
    let mut calls = Vec::new();
    for _ in 0..2 {
        let execution = call(&fixture, &id, json!({})).await;
        fixture.api.output_reaches(&execution, begins.len() as u64).await;
        calls.push(execution);
    }
    open_gate(&gates, "main");
    for execution in &calls {
        assert_eq!(fixture.api.finished(execution).await["state"], "succeeded");
    }
    let state = state(&fixture, &id).await;
    assert_eq!((&state["data"], &state["data_version"]), (&json!({"n": 1}), &json!(1)));
    assert_eq!(
        (&state["call_count"], &state["last_outcome"]),
        (&json!(2), &json!("data_conflict"))
    );

    // A schedule's data is deleted with it, and another tenant does not find it.
    fixture.api.delete(&format!("/api/schedules/{id}")).await.expect(204);
    let path = format!("/api/schedules/{id}/trigger-states");
    fixture.api.get(&path).await.expect_problem(404, "not_found");
}
