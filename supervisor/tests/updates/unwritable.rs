//! Disks that do not take what is to be written: nothing is forgotten, and nothing untrue is said.

use std::fs;

use nix::sys::signal::{Signal, kill};
use serde_json::Value;

use crate::harness::eventually;
use crate::installation::{GOOD, Installation, SILENT, WISHES};

fn is_decided(installation: &Installation, outcome: &str) {
    eventually("the outcome is noted", || {
        (installation.json("trial.json")?["outcome"] == outcome).then_some(())
    });
}

#[test]
fn a_verdict_that_can_not_be_written_is_written_once_it_can() {
    let mut installation = Installation::new(WISHES, GOOD);
    let in_the_way = installation.block("state/update_result.new");
    let mut running = installation.start();
    running.runs("0.1.0");
    let agent = running.runs("0.2.0");
    is_decided(&installation, "installed");
    // An agent that begins meanwhile waits for it, and nobody says that it was interrupted.
    kill(agent, Signal::SIGKILL).unwrap();
    assert!(running.line().starts_with("0.2.0 runs, trial 1"));
    assert!(!installation.path("state/update_result.json").exists());
    assert_eq!(installation.current(), "0.2.0");
    fs::remove_dir_all(in_the_way).unwrap();
    installation.ends("installed", "", "0.2.0");
    running.stop();
}

#[test]
fn what_was_decided_is_carried_out_by_the_next_start_and_not_decided_again() {
    let mut installation = Installation::new(WISHES, "[ -e silent ] || register; exec sleep 600");
    let in_the_way = installation.block("state/update_result.new");
    installation.harness.set("MUSTER_TRIAL_MS", "2000");
    let mut running = installation.start();
    running.runs("0.1.0");
    running.runs("0.2.0");
    is_decided(&installation, "installed");
    running.kill_9();
    // It would be given back if it was on trial still.
    fs::write(installation.path("silent"), "").unwrap();
    fs::remove_dir_all(in_the_way).unwrap();
    let mut running = installation.start();
    installation.ends("installed", "", "0.2.0");
    running.runs("0.2.0");
    running.stop();
}

#[test]
fn a_way_back_that_can_not_be_noted_is_gone_all_the_same_and_judged_by_what_comes_of_it() {
    let body = format!("mkdir -p 'trial.new/in the way'; {SILENT}");
    let mut installation = Installation::new(WISHES, &body);
    installation.harness.set("MUSTER_TRIAL_MS", "2000");
    let mut running = installation.start();
    running.runs("0.1.0");
    running.runs("0.2.0");
    running.runs("0.1.0");
    assert_eq!(installation.json("trial.json").unwrap()["phase"], "trying");
    assert!(!installation.path("state/update_result.json").exists());
    fs::remove_dir_all(installation.path("trial.new")).unwrap();
    installation.ends("rolled_back", "not_registered", "0.1.0");
    running.stop();
}

#[test]
fn a_version_that_can_not_be_made_current_again_is_left_all_the_same() {
    let mut installation = Installation::new(WISHES, SILENT);
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
    installation.ends("rolled_back", "not_registered", "0.1.0");
    running.stop();
}

#[test]
fn an_answer_without_a_trial_is_written_once_it_can() {
    let mut installation = Installation::new(WISHES, GOOD);
    fs::write(installation.path("release/release.sig"), "{}").unwrap();
    let in_the_way = installation.block("state/update_result.new");
    let mut running = installation.start();
    running.runs("0.1.0");
    // It is told to wait.
    assert!(running.line().starts_with("0.1.0 runs, trial 1"));
    fs::remove_dir_all(in_the_way).unwrap();
    installation.ends("failed", "download_failed", "0.1.0");
    running.stop();
}

#[test]
fn a_start_that_can_not_be_counted_goes_back_and_blames_nobody() {
    let mut installation = Installation::new(WISHES, SILENT);
    installation.leave_on_trial();
    let in_the_way = installation.block("trial.new");
    let mut running = installation.start();
    running.runs("0.1.0");
    fs::remove_dir_all(in_the_way).unwrap();
    installation.ends("failed", "storage_failed", "0.1.0");
    running.stop();
}

#[test]
fn the_note_of_a_trial_whose_end_was_told_is_not_taken_up_again() {
    let mut installation = Installation::new(WISHES, SILENT);
    installation.leave_on_trial();
    let told = serde_json::json!({
        "command_id": crate::installation::COMMAND, "outcome": "failed", "from_version": "0.1.0",
        "to_version": "0.2.0", "code": "storage_failed", "message": "",
    });
    fs::write(installation.path("state/update_result.json"), told.to_string()).unwrap();
    let mut running = installation.start();
    running.runs("0.1.0");
    installation.ends("failed", "storage_failed", "0.1.0");
    assert_eq!(installation.json("trial.json"), None::<Value>);
    running.stop();
}
