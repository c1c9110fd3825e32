//! What proves a version, and what speaks against it.

use std::fs;

use crate::installation::{GOOD, Installation, SILENT, WISHES};

#[test]
fn a_session_of_another_version_proves_nothing() {
    let body = format!("version=0.1.0; register; {SILENT}");
    let mut installation = Installation::new(WISHES, &body);
    installation.harness.set("MUSTER_TRIAL_MS", "2000");
    let mut running = installation.start();
    running.runs("0.1.0");
    running.runs("0.2.0");
    running.runs("0.1.0");
    installation.ends("rolled_back", "not_registered", "0.1.0");
    running.stop();
}

#[test]
fn what_an_agent_before_a_power_cut_said_proves_nothing_where_processes_have_the_same_numbers() {
    let mut installation = Installation::new(WISHES, SILENT);
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
    installation.ends("rolled_back", "not_registered", "0.1.0");
    running.kill_9();
}

#[test]
fn restarts_that_somebody_asked_for_do_not_speak_against_a_version() {
    let body = "[ -e third ] && { register; exec sleep 600; }; \
        [ -e second ] && : >third; [ -e first ] && : >second; : >first; exit 42";
    let mut installation = Installation::new(WISHES, body);
    let mut running = installation.start();
    running.runs("0.1.0");
    (0..4).for_each(|_| _ = running.runs("0.2.0"));
    installation.ends("installed", "", "0.2.0");
    running.stop();
}

#[test]
fn a_version_that_has_registered_and_ends_at_once_is_kept() {
    let body = "[ -e once ] && exec sleep 600; : >once; register; exit 1";
    let mut installation = Installation::new(WISHES, body);
    let mut running = installation.start();
    running.runs("0.1.0");
    running.runs("0.2.0");
    running.runs("0.2.0");
    installation.ends("installed", "", "0.2.0");
    running.stop();
}

#[test]
fn a_configuration_that_no_agent_can_work_with_is_not_the_releases_fault() {
    let mut installation = Installation::new("wish; exit 99", "exit 99");
    let mut running = installation.start();
    running.runs("0.1.0");
    running.runs("0.2.0");
    running.runs("0.1.0");
    assert_eq!(running.exit_code(), Some(99));
    installation.ends("failed", "server_unreachable", "0.1.0");
}

#[test]
fn a_version_that_can_not_work_where_the_one_before_can_is_given_back() {
    let mut installation = Installation::new(WISHES, "exit 99");
    let mut running = installation.start();
    running.runs("0.1.0");
    running.runs("0.2.0");
    running.runs("0.1.0");
    installation.ends("rolled_back", "crashed", "0.1.0");
    running.stop();
}

#[test]
fn a_good_version_is_kept_and_the_host_begins_with_it() {
    let mut installation = Installation::new(WISHES, GOOD);
    let mut running = installation.start();
    running.runs("0.1.0");
    running.runs("0.2.0");
    installation.ends("installed", "", "0.2.0");
    running.kill_9();
    let mut running = installation.start();
    assert!(running.line().starts_with("0.2.0 runs, trial no"));
    running.stop();
}
