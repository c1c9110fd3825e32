//! Children that are hard to end: they ignore TERM, become daemons, print without end, or their
//! script is deleted while they run.

use muster_tests::{AgentOptions, Fixture, JsonFields as _, Script, eventually};
use serde_json::json;

#[tokio::test]
async fn child_that_ignores_sigterm_is_killed_after_the_grace_period() {
    let fixture = Fixture::on_sqlite().await;
    let body = "trap '' TERM; echo deaf; while :; do sleep 1; done";
    let (_agent, id) = fixture.agent(AgentOptions::with_scripts([Script::new("deaf", body)])).await;
    let run = fixture.api.execute(&id, "deaf", json!({})).await;
    fixture.api.output_reaches(&run, 5).await;
    fixture.api.post(&format!("/api/commands/{run}/cancel"), json!({})).await;
    let command = fixture.api.finished(&run).await;
    assert_eq!(command["state"], "cancelled", "{command}");
    assert_eq!(command["result"]["signal"], 9, "{command}");
    assert_eq!(fixture.api.output(&run).await, b"deaf\n");
}

#[tokio::test]
async fn daemons_of_a_child_are_killed_with_it() {
    let fixture = Fixture::on_sqlite().await;
    // Once beside its parent, and once in its own session with its output held open. Durations that
    // no other run of this test uses at the same time.
    let [child, grandchild, detached] =
        [1, 2, 3].map(|n| format!("sleep 100{n}.{}", std::process::id()));
    let body =
        format!("{child} &\nsetsid sh -c '{grandchild} & {detached}' &\nsleep 0.3\necho leaving");
    let options = AgentOptions::with_scripts([Script::new("daemon", &body)]);
    let (_agent, id) = fixture.agent(options).await;
    let run = fixture.api.execute(&id, "daemon", json!({})).await;
    let command = fixture.api.finished(&run).await;
    assert_eq!(command["state"], "succeeded", "{command}");
    assert_eq!(fixture.api.output(&run).await, b"leaving\n");
    let duration = command["result"].number("duration_ms");
    assert!(duration < 20_000, "it waited for daemons: {duration} ms");
    for sleep in [&child, &grandchild, &detached] {
        eventually(&format!("`{sleep}` is gone"), async || (!runs(sleep)).then_some(())).await;
    }
}

/// True while any process has exactly these arguments.
fn runs(command_line: &str) -> bool {
    let wanted = format!("{}\0", command_line.replace(' ', "\0")).into_bytes();
    std::fs::read_dir("/proc")
        .expect("read /proc")
        .filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok())
        .any(|arguments| arguments == wanted)
}

#[tokio::test]
async fn endless_output_is_truncated_at_the_limit_and_the_child_killed_in_time() {
    let fixture = Fixture::on_sqlite().await;
    let limit = 3_000_000;
    let options = AgentOptions::with_scripts([Script::new("yes", "exec yes")])
        .with("MUSTER_OUTPUT_LIMIT_BYTES", limit);
    let (_agent, id) = fixture.agent(options).await;
    let run = fixture.api.execute(&id, "yes", json!({"timeout_ms": 3000})).await;
    let command = fixture.api.finished(&run).await;
    assert_eq!(command["state"], "timed_out", "{command}");
    let result = &command["result"];
    assert_eq!(result["output_complete"], false, "{result}");
    assert!(result["dropped_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{result}");
    let output = fixture.api.output(&run).await;
    assert!(output.len() <= limit, "{} bytes", output.len());
    assert_eq!(result["output_bytes"], output.len(), "{result}");
    assert!(output.chunks(2).all(|line| line == b"y\n" || line == b"y"), "not what it printed");
    // The agent was not blocked by it.
    assert_eq!(fixture.ask(&id, "ping", json!({})).await["success"], true);
}

#[tokio::test]
async fn script_deleted_while_it_runs_finishes_and_is_refused_afterwards() {
    let fixture = Fixture::on_sqlite().await;
    let body = "echo begun\nwhile [ ! -e \"$GATE\" ]; do sleep 0.05; done\necho ended";
    let (agent, id) = fixture
        .agent(AgentOptions::with_scripts([Script::new("gone", body).taking(["GATE"])]))
        .await;
    let gate = fixture.test_dir.path().join("gate");
    let data = json!({"parameters": {"GATE": gate}});
    let run = fixture.api.execute(&id, "gone", data.clone()).await;
    fixture.api.output_reaches(&run, 6).await;
    agent.allow(&[Script::new("other", "echo other")]);
    std::fs::remove_file(agent.state_dir().join("scripts/gone.sh")).expect("delete the script");
    std::fs::write(&gate, "").expect("open the gate");
    let command = fixture.api.finished(&run).await;
    assert_eq!(command["state"], "succeeded", "{command}");
    assert_eq!(fixture.api.output(&run).await, b"begun\nended\n");
    let again = fixture.api.execute(&id, "gone", data).await;
    let command = fixture.api.finished(&again).await;
    assert_eq!(command["state"], "rejected", "{command}");
}

#[tokio::test]
async fn listed_script_without_a_file_is_refused_with_a_reason() {
    let fixture = Fixture::on_sqlite().await;
    let (agent, id) =
        fixture.agent(AgentOptions::with_scripts([Script::new("gone", "true")])).await;
    std::fs::remove_file(agent.state_dir().join("scripts/gone.sh")).expect("delete the script");
    let run = fixture.api.execute(&id, "gone", json!({})).await;
    let command = fixture.api.finished(&run).await;
    assert!(command["state"] == "rejected" || command["state"] == "failed", "{command}");
    assert!(command["error"].as_str().is_some_and(|text| !text.is_empty()), "{command}");
}
