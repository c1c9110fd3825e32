//! Failing starts, and starts of a second supervisor.

use std::fs;
use std::io::Write as _;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;

use crate::harness::{Running, eventually};
use crate::installation::{GOOD, Installation, REQUESTS_UPDATE, SILENT, write_script};

fn fails(running: &mut Running) {
    assert_eq!(running.exit_code(), Some(2), "{}", running.rest_of_log());
}

#[test]
fn starts_that_fail_before_the_command_line_is_read_are_counted() {
    let mut installation = Installation::new(REQUESTS_UPDATE, GOOD);
    installation.leave_on_trial();
    installation.harness.set("MUSTER_TRIAL_MS", "ten");
    for count in 1..=3 {
        fails(&mut installation.start());
        assert_eq!(installation.json("trial.json").unwrap()["boots"], count);
    }
    installation.harness.set("MUSTER_TRIAL_MS", "15000");
    let mut running = installation.start();
    running.runs("0.1.0");
    installation.expect_result("rolled_back", "supervisor_failed", "0.1.0");
    running.stop();
}

#[test]
fn current_supervisor_that_rejects_its_command_line_is_rolled_back() {
    let mut installation = Installation::new(REQUESTS_UPDATE, GOOD);
    installation.leave_on_trial();
    installation.set_current("0.2.0");
    installation.run_current(&["--an-option-of-the-version-before"]);
    for _ in 1..=3 {
        fails(&mut installation.start());
        assert_eq!(installation.current(), "0.2.0");
    }
    fails(&mut installation.start());
    assert_eq!(installation.current(), "0.1.0");
    installation.run_current(&[]);
    let mut running = installation.start();
    running.runs("0.1.0");
    installation.expect_result("rolled_back", "supervisor_failed", "0.1.0");
    running.stop();
}

#[test]
fn dir_option_takes_precedence_over_the_environment() {
    let mut installation = Installation::new(REQUESTS_UPDATE, GOOD);
    installation.leave_on_trial();
    let folder = installation.path("").display().to_string();
    installation.run_current(&["--dir", &folder, "--nonsense"]);
    installation.harness.set("MUSTER_DIR", "/nowhere");
    fails(&mut installation.start());
    assert_eq!(installation.json("trial.json").unwrap()["boots"], 1);
}

#[test]
fn new_supervisor_that_rejects_its_future_arguments_fails_its_self_test() {
    let mut installation = Installation::new(REQUESTS_UPDATE, GOOD);
    let refuses = r#"case " $* " in *" --park "*) exit 3 ;; esac"#;
    fs::remove_file(installation.path("release/bin/muster-supervisor")).unwrap();
    write_script(&installation.path("release/bin/muster-supervisor"), refuses);
    let key = muster_protocol::release::SigningKey::generate().unwrap();
    let key = muster_protocol::release::SigningKey::read(&key).unwrap();
    fs::write(installation.path("release_key"), key.public().unwrap().fingerprint()).unwrap();
    installation.sign(&key);
    installation.run_current(&["--park"]);
    let mut running = installation.start();
    running.runs("0.1.0");
    installation.expect_result("rolled_back", "does_not_start", "0.1.0");
    running.stop();
}

#[test]
fn self_test_reads_arguments_and_environment_as_run_does() {
    let tests = |args: &[&str], trial: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_muster-supervisor"));
        let status = command.arg("self-test").args(args).env("MUSTER_TRIAL_MS", trial).output();
        status.unwrap().status.success()
    };
    assert!(tests(&[], "10"));
    assert!(tests(&["--", "run", "--park", "--", "--name", "a"], "10"));
    assert!(!tests(&["--", "run", "--park"], "ten"));
    assert!(!tests(&["--", "run", "--no-such-option"], "10"));
}

#[test]
fn second_supervisor_does_not_touch_the_update_of_the_first() {
    let mut installation = Installation::new(REQUESTS_UPDATE, GOOD);
    let gate = installation.path("gate");
    nix::unistd::mkfifo(&gate, Mode::S_IRWXU).unwrap();
    let mut first = installation.start();
    first.runs("0.1.0");
    eventually("the download has begun", || (!installation.fetched().is_empty()).then_some(()));
    let mut second = installation.start();
    second.runs("0.1.0");
    assert!(!installation.path("state/update_result.json").exists());
    assert!(installation.has_staging());
    for part in ["documents\n", "programs\n"] {
        let waits = || installation.fetched().ends_with(part).then_some(());
        eventually("the next part is waited for", waits);
        let mut gate = fs::OpenOptions::new().write(true).open(&gate).unwrap();
        gate.write_all(b"go\n").unwrap();
    }
    first.runs("0.2.0");
    installation.expect_result("installed", "", "0.2.0");
    second.stop();
    let log = second.rest_of_log();
    assert!(log.contains("another supervisor manages the programs in"), "{log}");
    first.stop();
}

#[test]
fn second_supervisor_takes_over_once_the_first_has_ended() {
    let mut installation = Installation::new(REQUESTS_UPDATE, GOOD);
    let requested_marker = installation.path("requested");
    fs::write(&requested_marker, "").unwrap();
    let mut first = installation.start();
    first.runs("0.1.0");
    let mut second = installation.start();
    let agent = second.runs("0.1.0");
    first.stop();
    fs::remove_file(requested_marker).unwrap();
    kill(agent, Signal::SIGKILL).unwrap();
    second.runs("0.1.0");
    second.runs("0.2.0");
    installation.expect_result("installed", "", "0.2.0");
    second.stop();
}

#[test]
fn second_supervisor_is_not_counted_as_a_start_of_the_trial() {
    let mut installation = Installation::new(REQUESTS_UPDATE, SILENT);
    installation.leave_on_trial();
    let mut first = installation.start();
    first.runs("0.2.0");
    for _ in 0..4 {
        let mut second = installation.start();
        second.runs("0.1.0");
        second.stop();
    }
    assert_eq!(installation.json("trial.json").unwrap()["boots"], 1);
    first.stop();
}
