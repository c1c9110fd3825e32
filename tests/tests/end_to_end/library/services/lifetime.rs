//! Services through updates, kills, failures and failed checks.

use std::path::Path;

use muster_tests::{
    AgentOptions, Fixture, JsonFields as _, Publisher, eventually, eventually_shown, write_policy,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::{
    Hosted, PROGRAM, archive, assign, control, gone, hosted, in_state, is_alive, process_ids,
    remove, reported, started, upload,
};

#[tokio::test]
async fn a_service_keeps_its_process_through_an_update_of_the_agent() {
    let fixture = Fixture::on_sqlite().await;
    let publisher = Publisher::new(&fixture).await;
    publisher.release("0.1.0").await;
    publisher.release("0.2.0").await;
    let folder = publisher.install("agent", "0.1.0");
    write_policy(&fixture.test_dir.folder("agent"), &json!({"allow": "library"}).to_string());
    let options = AgentOptions::named("agent").installed(folder).with("MUSTER_BACKOFF_MAX_MS", 200);
    let (agent, agent_id) = fixture.agent(options).await;
    let log = fixture.test_dir.folder("log");
    upload(&fixture, archive("1", PROGRAM, "")).await;
    let id = assign(&fixture, &log).await;
    let process = started(&log, 1).await;
    let before = in_state(&fixture, &id, "running").await;
    let update = json!({"command": "update", "data": {"version": "0.2.0"}});
    let path = format!("/api/agents/{agent_id}/command");
    fixture.api.post(&path, update).await.expect(202);
    eventually_shown("the agent runs 0.2.0", async || {
        let shown = fixture.api.get(&format!("/api/agents/{agent_id}")).await.expect(200);
        let is_done = shown["version"] == "0.2.0" && shown["update"]["outcome"] == "installed";
        if is_done { Ok(()) } else { Err(shown) }
    })
    .await;
    assert!(is_alive(process));
    // The new agent controls it.
    control(&fixture, &id, "restart").await;
    started(&log, 2).await;
    gone(process).await;
    let ended = fixture.api.finished(before.text("run_id")).await;
    assert_eq!(ended["state"], "cancelled", "{ended}");
    remove(&fixture, &agent, &id).await;
}

#[tokio::test]
async fn a_service_has_one_process_through_kills_and_a_reboot() {
    let mut fixture = Fixture::on_sqlite().await;
    let Hosted { mut agent, id, log, .. } = hosted(&fixture, PROGRAM, "").await;
    let first = started(&log, 1).await;
    in_state(&fixture, &id, "running").await;
    agent.kill_9();
    agent.resume();
    in_state(&fixture, &id, "running").await;
    assert!(is_alive(first));
    agent.stop();
    assert!(is_alive(first), "it outlives the agent");
    fixture.server.stop();
    agent.resume();
    // Its shim is gone, so nothing would end it.
    agent.kill_9_shims().await;
    let second = started(&log, 2).await;
    assert!(!is_alive(first), "two at once");
    // As after a reboot: no process is left, and the server is away.
    agent.cut_power();
    if is_alive(second) {
        kill(Pid::from_raw(second), Signal::SIGKILL).expect("killed");
    }
    agent.resume();
    let third = started(&log, 3).await;
    assert!(is_alive(third));
    fixture.server.resume();
    fixture.server.ready().await;
    let shown = reported(&fixture, &id, "all starts", |service| {
        service["state"] == "running" && service["restart_count"] == 2
    })
    .await;
    assert_eq!(shown["last_outcome"], "lost", "{shown}");
    // Results of runs arrive after the state of the service.
    eventually_shown("two runs are lost and one goes on", async || {
        let page = fixture.api.get("/api/executions?trigger=service").await.expect(200);
        let runs = page.list("items").iter();
        let mut states: Vec<_> = runs.map(|run| run.text("state").to_owned()).collect();
        states.sort_unstable();
        if states == ["lost", "lost", "running"] { Ok(()) } else { Err(states) }
    })
    .await;
    remove(&fixture, &agent, &id).await;
}

#[tokio::test]
async fn a_service_that_fails_waits_longer_each_time_and_ends_by_its_policy() {
    let fixture = Fixture::on_sqlite().await;
    let program = "echo $$ >>\"$LOG/pids\"\ntest -e \"$LOG/well\" || exit 3\n";
    let settings = "restart = \"on-failure\"";
    let Hosted { agent, id, log, .. } = hosted(&fixture, program, settings).await;
    let waiting = in_state(&fixture, &id, "backoff").await;
    assert!(waiting["restart_at"].is_string(), "{waiting}");
    assert_eq!(waiting["last_error_code"], "exit_code");
    let failed = reported(&fixture, &id, "restarts", |service| {
        service["restart_count"].as_u64().is_some_and(|count| count >= 2)
    })
    .await;
    assert!(failed["state"] != "ended", "{failed}");
    std::fs::write(log.join("well"), "").expect("written");
    let ended = in_state(&fixture, &id, "ended").await;
    assert_eq!(ended["last_outcome"], "succeeded", "{ended}");
    let starts = process_ids(&log).len();
    control(&fixture, &id, "restart").await;
    started(&log, starts + 1).await;
    remove(&fixture, &agent, &id).await;
}

#[tokio::test]
async fn a_service_whose_checks_fail_is_restarted() {
    let fixture = Fixture::on_sqlite().await;
    let settings = "max_memory_bytes = 67108864\nstop_grace_ms = 1000\n[service.health]\n\
         entry = \"health.sh\"\ninterval_ms = 1000\nfailures = 5";
    let Hosted { agent, id, log, .. } = hosted(&fixture, PROGRAM, settings).await;
    let first = started(&log, 1).await;
    let well = reported(&fixture, &id, "healthy", |service| service["health"] == "healthy").await;
    // The host says whether its limits hold.
    let has_groups = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let known = if has_groups { vec!["applied", "unavailable"] } else { vec!["unavailable"] };
    assert!(known.contains(&well.text("limits")), "{well}");
    std::fs::write(log.join("sick"), "").expect("written");
    reported(&fixture, &id, "failing", |service| service["health"] == "failing").await;
    gone(first).await;
    std::fs::remove_file(log.join("sick")).expect("removed");
    let ended = fixture.api.finished(well.text("run_id")).await;
    assert_eq!((&ended["state"], &ended["error_code"]), (&json!("failed"), &json!("unhealthy")));
    eventually("another start", async || (process_ids(&log).len() > 1).then_some(())).await;
    reported(&fixture, &id, "healthy again", |service| service["health"] == "healthy").await;
    remove(&fixture, &agent, &id).await;
}

#[tokio::test]
async fn what_a_check_leaves_behind_is_ended_while_the_service_runs() {
    let fixture = Fixture::on_sqlite().await;
    let settings = "[service.health]\nentry = \"health.sh\"\ninterval_ms = 1000";
    let Hosted { agent, id, log, .. } = hosted(&fixture, PROGRAM, settings).await;
    let service = started(&log, 1).await;
    std::fs::write(log.join("leave"), "").expect("written");
    let left = eventually("two checks have left something", async || {
        let text = std::fs::read_to_string(log.join("left")).unwrap_or_default();
        let left: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
        (left.len() >= 2).then_some(left)
    })
    .await;
    gone(left[0]).await;
    assert!(is_alive(service), "only what the check has left is ended");
    assert_eq!(in_state(&fixture, &id, "running").await["health"], "healthy");
    remove(&fixture, &agent, &id).await;
}
