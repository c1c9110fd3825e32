//! Disks that refuse writes: nothing is lost, and no result is wrong.

use std::fs;

use nix::sys::signal::{Signal, kill};
use serde_json::Value;

use crate::harness::eventually;
use crate::installation::{GOOD, Installation, REQUESTS_UPDATE, SILENT};

fn wait_for_outcome(installation: &Installation, outcome: &str) {
    eventually("the outcome is noted", || {
        (installation.json("trial.json")?["outcome"] == outcome).then_some(())
    });
}

#[test]
fn result_is_written_as_soon_as_the_disk_accepts_it() {
    let mut installation = Installation::new(REQUESTS_UPDATE, GOOD);
    let in_the_way = installation.block("state/update_result.new");
    let mut running = installation.start();
    running.runs("0.1.0");
    let agent = running.runs("0.2.0");
    wait_for_outcome(&installation, "installed");
    // An agent that starts meanwhile waits for the result, and the update is not reported as
    // interrupted.
    kill(agent, Signal::SIGKILL).unwrap();
    assert!(running.line().starts_with("0.2.0 runs, trial 1"));
    assert!(!installation.path("state/update_result.json").exists());
    assert_eq!(installation.current(), "0.2.0");
    fs::remove_dir_all(in_the_way).unwrap();
    installation.expect_result("installed", "", "0.2.0");
    running.stop();
}

#[test]
fn saved_outcome_is_applied_by_the_next_start_and_not_decided_again() {
    let mut installation =
        Installation::new(REQUESTS_UPDATE, "[ -e silent ] || register; exec sleep 600");
    let in_the_way = installation.block("state/update_result.new");
    installation.harness.set("MUSTER_TRIAL_MS", "2000");
    let mut running = installation.start();
    running.runs("0.1.0");
    running.runs("0.2.0");
    wait_for_outcome(&installation, "installed");
    running.kill_9();
    // It would be rolled back if it were still on trial.
    fs::write(installation.path("silent"), "").unwrap();
    fs::remove_dir_all(in_the_way).unwrap();
    let mut running = installation.start();
    installation.expect_result("installed", "", "0.2.0");
    running.runs("0.2.0");
    running.stop();
}

#[test]
fn roll_back_that_cannot_be_saved_still_happens_and_decides_the_result() {
    let body = format!("mkdir -p 'trial.new/in the way'; {SILENT}");
    let mut installation = Installation::new(REQUESTS_UPDATE, &body);
    installation.harness.set("MUSTER_TRIAL_MS", "2000");
    let mut running = installation.start();
    running.runs("0.1.0");
    running.runs("0.2.0");
    running.runs("0.1.0");
    assert_eq!(installation.json("trial.json").unwrap()["phase"], "on_trial");
    assert!(!installation.path("state/update_result.json").exists());
    fs::remove_dir_all(installation.path("trial.new")).unwrap();
    installation.expect_result("rolled_back", "not_registered", "0.1.0");
    running.stop();
}

#[test]
fn roll_back_happens_even_if_the_previous_version_cannot_be_made_current() {
    let mut installation = Installation::new(REQUESTS_UPDATE, SILENT);
    installation.leave_on_trial();
    installation.set_current("0.2.0");
    let in_the_way = installation.block("versions/.current");
    installation.harness.set("MUSTER_TRIAL_MS", "1000");
    let mut running = installation.start();
    running.runs("0.2.0");
    running.runs("0.1.0");
    assert_eq!(installation.current(), "0.2.0");
    assert!(!installation.path("state/update_result.json").exists());
    fs::remove_dir_all(in_the_way).unwrap();
    installation.expect_result("rolled_back", "not_registered", "0.1.0");
    running.stop();
}

#[test]
fn result_without_a_trial_is_written_as_soon_as_the_disk_accepts_it() {
    let mut installation = Installation::new(REQUESTS_UPDATE, GOOD);
    fs::write(installation.path("release/release.sig"), "{}").unwrap();
    let in_the_way = installation.block("state/update_result.new");
    let mut running = installation.start();
    running.runs("0.1.0");
    // It must wait for the result.
    assert!(running.line().starts_with("0.1.0 runs, trial 1"));
    fs::remove_dir_all(in_the_way).unwrap();
    installation.expect_result("failed", "download_failed", "0.1.0");
    running.stop();
}

#[test]
fn start_that_cannot_be_counted_rolls_back_without_failing_the_release() {
    let mut installation = Installation::new(REQUESTS_UPDATE, SILENT);
    installation.leave_on_trial();
    let in_the_way = installation.block("trial.new");
    let mut running = installation.start();
    running.runs("0.1.0");
    fs::remove_dir_all(in_the_way).unwrap();
    installation.expect_result("failed", "storage_failed", "0.1.0");
    running.stop();
}

#[test]
fn saved_trial_with_a_written_result_is_not_resumed() {
    let mut installation = Installation::new(REQUESTS_UPDATE, SILENT);
    installation.leave_on_trial();
    let told = serde_json::json!({
        "command_id": crate::installation::COMMAND, "outcome": "failed", "from_version": "0.1.0",
        "to_version": "0.2.0", "code": "storage_failed", "message": "",
    });
    fs::write(installation.path("state/update_result.json"), told.to_string()).unwrap();
    let mut running = installation.start();
    running.runs("0.1.0");
    installation.expect_result("failed", "storage_failed", "0.1.0");
    assert_eq!(installation.json("trial.json"), None::<Value>);
    running.stop();
}
