//! Children that will not behave: deaf to TERM, daemons, printers without end, scripts deleted
//! while they run.

use muster_tests::{AgentOptions, Script, World, eventually};
use serde_json::json;

#[tokio::test]
async fn a_child_that_ignores_term_is_killed_after_the_grace() {
    let world = World::on_sqlite().await;
    let body = "trap '' TERM; echo deaf; while :; do sleep 1; done";
    let (_agent, id) = world.agent(AgentOptions::with_scripts([Script::new("deaf", body)])).await;
    let run = world.api.execute(&id, "deaf", json!({})).await;
    world.api.output_reaches(&run, 5).await;
    world.api.post(&format!("/api/commands/{run}/cancel"), json!({})).await;
    let command = world.api.finished(&run).await;
    assert_eq!(command["state"], "cancelled", "{command}");
    assert_eq!(command["result"]["signal"], 9, "{command}");
    assert_eq!(world.api.output(&run).await, b"deaf\n");
}

#[tokio::test]
async fn a_child_that_leaves_daemons_behind_ends_with_them() {
    let world = World::on_sqlite().await;
    // Once beside its parent, once in a session of its own with its output held open.
    // Durations that no other run of this test asks for at the same time.
    let [child, grandchild, stranger] =
        [1, 2, 3].map(|n| format!("sleep 100{n}.{}", std::process::id()));
    let body =
        format!("{child} &\nsetsid sh -c '{grandchild} & {stranger}' &\nsleep 0.3\necho leaving");
    let options = AgentOptions::with_scripts([Script::new("daemon", &body)]);
    let (_agent, id) = world.agent(options).await;
    let run = world.api.execute(&id, "daemon", json!({})).await;
    let command = world.api.finished(&run).await;
    assert_eq!(command["state"], "succeeded", "{command}");
    assert_eq!(world.api.output(&run).await, b"leaving\n");
    let duration = command["result"]["duration_ms"].as_u64().expect("a duration");
    assert!(duration < 20_000, "it waited for daemons: {duration} ms");
    for sleep in [&child, &grandchild, &stranger] {
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
async fn a_child_that_prints_without_end_is_cut_at_the_limit_and_ended_in_time() {
    let world = World::on_sqlite().await;
    let limit = 3_000_000;
    let options = AgentOptions::with_scripts([Script::new("yes", "exec yes")])
        .with("MUSTER_OUTPUT_LIMIT_BYTES", limit);
    let (_agent, id) = world.agent(options).await;
    let run = world.api.execute(&id, "yes", json!({"timeout_ms": 3000})).await;
    let command = world.api.finished(&run).await;
    assert_eq!(command["state"], "timed_out", "{command}");
    let result = &command["result"];
    assert_eq!(result["output_complete"], false, "{result}");
    assert!(result["dropped_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{result}");
    let output = world.api.output(&run).await;
    assert!(output.len() <= limit, "{} bytes", output.len());
    assert_eq!(result["output_bytes"], output.len(), "{result}");
    assert!(output.chunks(2).all(|line| line == b"y\n" || line == b"y"), "not what it printed");
    // The agent was never in its way.
    assert_eq!(world.ask(&id, "ping", json!({})).await["success"], true);
}

#[tokio::test]
async fn a_script_deleted_while_it_runs_ends_as_it_would_have_and_is_refused_afterwards() {
    let world = World::on_sqlite().await;
    let body = "echo begun\nwhile [ ! -e \"$GATE\" ]; do sleep 0.05; done\necho ended";
    let (agent, id) =
        world.agent(AgentOptions::with_scripts([Script::new("gone", body).taking(["GATE"])])).await;
    let gate = world.site.path().join("gate");
    let data = json!({"parameters": {"GATE": gate}});
    let run = world.api.execute(&id, "gone", data.clone()).await;
    world.api.output_reaches(&run, 6).await;
    agent.allow(&[Script::new("other", "echo other")]);
    std::fs::remove_file(agent.state_dir().join("scripts/gone.sh")).expect("delete the script");
    std::fs::write(&gate, "").expect("open the gate");
    let command = world.api.finished(&run).await;
    assert_eq!(command["state"], "succeeded", "{command}");
    assert_eq!(world.api.output(&run).await, b"begun\nended\n");
    let again = world.api.execute(&id, "gone", data).await;
    let command = world.api.finished(&again).await;
    assert_eq!(command["state"], "rejected", "{command}");
}

#[tokio::test]
async fn a_listed_script_whose_file_is_missing_is_refused_with_a_reason() {
    let world = World::on_sqlite().await;
    let (agent, id) = world.agent(AgentOptions::with_scripts([Script::new("gone", "true")])).await;
    std::fs::remove_file(agent.state_dir().join("scripts/gone.sh")).expect("delete the script");
    let run = world.api.execute(&id, "gone", json!({})).await;
    let command = world.api.finished(&run).await;
    assert!(command["state"] == "rejected" || command["state"] == "failed", "{command}");
    assert!(command["error"].as_str().is_some_and(|text| !text.is_empty()), "{command}");
}
