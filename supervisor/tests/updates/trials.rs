//! What decides a trial.

use std::fs;

use crate::installation::{GOOD, Installation, REQUESTS_UPDATE, SILENT};

#[test]
fn session_of_another_version_does_not_end_the_trial() {
    let body = format!("version=0.1.0; register; {SILENT}");
    let mut installation = Installation::new(REQUESTS_UPDATE, &body);
    installation.harness.set("MUSTER_TRIAL_MS", "2000");
    let mut running = installation.start();
    running.runs("0.1.0");
    running.runs("0.2.0");
    running.runs("0.1.0");
    installation.expect_result("rolled_back", "not_registered", "0.1.0");
    running.stop();
}

#[test]
fn status_of_an_agent_before_a_power_cut_does_not_end_the_trial_even_with_the_same_pid() {
    let mut installation = Installation::new(REQUESTS_UPDATE, SILENT);
    installation.leave_on_trial();
    let mut command = std::process::Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
    command.arg(installation.path("versions/current/bin/muster-supervisor")).arg("run");
    installation.harness.run_instead(command);
    installation.harness.set("MUSTER_TRIAL_MS", "2000");
    let said = r#"{"pid": 2, "version": "0.2.0", "connected_since": "then"}"#;
    fs::write(installation.path("state/status.json"), said).unwrap();
    let mut running = installation.start();
    assert_eq!(running.runs("0.2.0").as_raw(), 2, "the number that was left behind");
    running.runs("0.1.0");
    installation.expect_result("rolled_back", "not_registered", "0.1.0");
    running.kill_9();
}

#[test]
fn requested_restarts_do_not_fail_a_trial() {
    let body = "[ -e third ] && { register; exec sleep 600; }; \
        [ -e second ] && : >third; [ -e first ] && : >second; : >first; exit 42";
    let mut installation = Installation::new(REQUESTS_UPDATE, body);
    let mut running = installation.start();
    running.runs("0.1.0");
    (0..4).for_each(|_| _ = running.runs("0.2.0"));
    installation.expect_result("installed", "", "0.2.0");
    running.stop();
}

#[test]
fn version_that_registers_and_then_crashes_is_kept() {
    let body = "[ -e once ] && exec sleep 600; : >once; register; exit 1";
    let mut installation = Installation::new(REQUESTS_UPDATE, body);
    let mut running = installation.start();
    running.runs("0.1.0");
    running.runs("0.2.0");
    running.runs("0.2.0");
    installation.expect_result("installed", "", "0.2.0");
    running.stop();
}

#[test]
fn configuration_that_neither_version_can_use_does_not_fail_the_release() {
    let mut installation = Installation::new("request; exit 99", "exit 99");
    let mut running = installation.start();
    running.runs("0.1.0");
    running.runs("0.2.0");
    running.runs("0.1.0");
    assert_eq!(running.exit_code(), Some(99));
    installation.expect_result("failed", "server_unreachable", "0.1.0");
}

#[test]
fn version_that_cannot_work_where_the_previous_one_can_is_rolled_back() {
    let mut installation = Installation::new(REQUESTS_UPDATE, "exit 99");
    let mut running = installation.start();
    running.runs("0.1.0");
    running.runs("0.2.0");
    running.runs("0.1.0");
    installation.expect_result("rolled_back", "crashed", "0.1.0");
    running.stop();
}

#[test]
fn registered_version_is_kept_and_used_at_the_next_start() {
    let mut installation = Installation::new(REQUESTS_UPDATE, GOOD);
    let mut running = installation.start();
    running.runs("0.1.0");
    running.runs("0.2.0");
    installation.expect_result("installed", "", "0.2.0");
    running.kill_9();
    let mut running = installation.start();
    assert!(running.line().starts_with("0.2.0 runs, trial no"));
    running.stop();
}
