//! What the supervisor does with each exit of a real agent.

#![cfg(unix)]

mod harness;

use std::fs;

use harness::{Harness, eventually, is_alive};
use nix::sys::signal::{Signal, kill};

#[test]
fn agent_gets_run_its_arguments_and_the_supervised_variable() {
    let mut harness = Harness::new(
        r#"echo "supervised $MUSTER_SUPERVISED own ${NOTIFY_SOCKET:-none} kept $KEPT"; exit 0"#,
    );
    harness.set("NOTIFY_SOCKET", "/nowhere").set("KEPT", "yes").args(&["--", "--name", "a b"]);
    let mut running = harness.start();
    assert!(running.line().ends_with("args run --name a b"));
    assert_eq!(running.line(), "supervised 1 own none kept yes");
    assert_eq!(running.exit_code(), Some(0));
}

#[test]
fn exit_0_ends_the_supervisor_with_0_without_a_restart() {
    let mut harness = Harness::new("exit 0");
    let mut running = harness.start();
    running.run(1);
    assert_eq!(running.exit_code(), Some(0));
    assert_eq!(running.rest_of_lines(), Vec::<String>::new());
    let state = running.state(|_| true);
    assert_eq!(state["state"], "stopped");
    assert_eq!(state["last_exit"]["code"], 0);
    assert_eq!(state["agent_pid"], serde_json::Value::Null);
}

#[test]
fn exit_codes_42_43_and_44_are_each_followed_by_a_restart() {
    let mut harness = Harness::new("set -- 42 43 44 0; eval exit \\${$n}");
    // With a backoff the test would time out: these restarts are immediate.
    harness.set("MUSTER_BACKOFF_MAX_MS", "86400000");
    let mut running = harness.start();
    (1..=4).for_each(|n| _ = running.run(n));
    assert_eq!(running.exit_code(), Some(0));
    assert_eq!(running.state(|_| true)["restarts"], 3);

    let log = running.rest_of_log();
    let said = "this agent can't be updated: it was not installed by deploy.sh";
    assert_eq!(log.matches(said).count(), 2, "{log}");
}

#[test]
fn exit_99_ends_the_supervisor_with_99_and_the_reason_that_the_agent_left() {
    let mut harness = Harness::new(
        r#"printf 'the key was \033[31mdeleted\nmore\n' > "$MUSTER_STATE_DIR/fatal_reason"; exit 99"#,
    );
    let mut running = harness.start();
    running.run(1);
    assert_eq!(running.exit_code(), Some(99));
    assert_eq!(running.rest_of_lines(), Vec::<String>::new());
    let state = running.state(|_| true);
    assert_eq!(
        state["reason"],
        "the agent can't work as configured (99): the key was  [31mdeleted"
    );
    assert!(running.rest_of_log().contains("[ERROR] supervisor: the agent can't work"));
}

#[test]
fn crashes_and_signals_restart_the_agent_after_the_backoff() {
    // Signal 35 is a real-time signal, which has no name.
    let mut harness =
        Harness::new("case $n in 1) exit 7;; 2) kill -9 $$;; 3) kill -35 $$;; *) exit 0;; esac");
    let mut running = harness.start();
    (1..=4).for_each(|n| _ = running.run(n));
    assert_eq!(running.exit_code(), Some(0));
    let log = running.rest_of_log();
    assert!(log.contains("the agent exited with 7; restarting in "), "{log}");
    assert!(log.contains("the agent was killed by signal 9; restarting in "), "{log}");
    assert_eq!(running.state(|_| true)["restarts"], 3);
}

#[test]
fn wait_after_a_crash_is_published_and_ended_by_a_stop_signal() {
    let mut harness = Harness::new("exit 7");
    harness.set("MUSTER_BACKOFF_MAX_MS", "86400000");
    let mut running = harness.start();
    running.run(1);
    let state = running.state(|state| state["state"] == "waiting");
    assert_eq!(state["reason"], "the agent exited with 7");
    assert!(state["next_start_in_ms"].as_u64().unwrap() <= 86_400_000);
    running.signal(Signal::SIGTERM);
    assert_eq!(running.exit_code(), Some(0));
    assert_eq!(running.rest_of_lines(), Vec::<String>::new(), "no second run");
}

#[test]
fn restart_loop_is_slowed_down() {
    let mut harness = Harness::new("exit 42");
    harness.set("MUSTER_BACKOFF_MAX_MS", "86400000");
    let mut running = harness.start();
    (1..=6).for_each(|n| _ = running.run(n));
    let state = running.state(|state| state["restarts"] == 6);
    assert_eq!(state["reason"], "the agent requested a restart (42) too often; slowing down");
    running.signal(Signal::SIGINT);
    assert_eq!(running.exit_code(), Some(0));
}

#[test]
fn healthy_runs_can_request_unlimited_restarts() {
    let mut harness = Harness::new("[ $n -lt 12 ] || exit 0; exit 42");
    harness.set("MUSTER_HEALTHY_AFTER_MS", "0").set("MUSTER_BACKOFF_MAX_MS", "86400000");
    let mut running = harness.start();
    (1..=12).for_each(|n| _ = running.run(n));
    assert_eq!(running.exit_code(), Some(0));
}

#[test]
fn missing_agent_is_reported_and_retried_until_it_exists() {
    let mut harness = Harness::new("exit 0");
    let agent = harness.path("agent");
    let hidden = harness.path("hidden");
    fs::rename(&agent, &hidden).unwrap();
    let mut running = harness.start();
    let state = running.state(|state| state["restarts"].as_u64() > Some(1));
    let reason = state["reason"].as_str().unwrap();
    assert!(
        reason.contains("failed to start the agent") && reason.contains("installed"),
        "{reason}"
    );
    fs::rename(&hidden, &agent).unwrap();
    running.run(1);
    assert_eq!(running.exit_code(), Some(0));
}

#[test]
fn current_version_is_looked_up_at_every_start() {
    let mut harness = Harness::new("exit 42");
    let bin = harness.path("versions/2.0/bin");
    fs::create_dir_all(&bin).unwrap();
    fs::write(bin.join("muster-agent"), "#!/bin/sh\necho from 2.0\nexit 0\n").unwrap();
    fs::set_permissions(
        bin.join("muster-agent"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let old = harness.path("versions/1.0/bin");
    fs::create_dir_all(&old).unwrap();
    // The first version makes the second one current, like an update does.
    fs::write(
        old.join("muster-agent"),
        "#!/bin/sh\necho from 1.0\nln -s 2.0 versions/next; mv -T versions/next versions/current\nexit 42\n",
    )
    .unwrap();
    fs::set_permissions(
        old.join("muster-agent"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    std::os::unix::fs::symlink("1.0", harness.path("versions/current")).unwrap();
    let dir = harness.path("").display().to_string();
    harness.set("MUSTER_AGENT", "").set("MUSTER_DIR", &dir);
    let mut running = harness.start();
    assert_eq!(running.line(), "from 1.0");
    assert_eq!(running.line(), "from 2.0");
    assert_eq!(running.exit_code(), Some(0));
}

#[test]
fn unwritable_state_directory_is_logged_once_and_does_not_stop_the_agent() {
    let mut harness = Harness::new("set -- 42 42 0; eval exit \\${$n}");
    fs::remove_dir(harness.path("state")).unwrap();
    let mut running = harness.start();
    (1..=3).for_each(|n| _ = running.run(n));
    assert_eq!(running.exit_code(), Some(0));
    assert_eq!(running.rest_of_log().matches("status not recorded").count(), 1);
    assert!(!harness.path("state").exists());
}

#[test]
fn parked_supervisor_stays_after_exit_99_until_a_stop_signal() {
    let mut harness = Harness::new("exit 99");
    harness.set("MUSTER_PARK", "1");
    let mut running = harness.start();
    running.run(1);
    let state = running.state(|state| state["state"] == "parked");
    assert!(state["reason"].as_str().unwrap().contains("see its log"));
    assert_eq!(state["last_exit"]["code"], 99);
    assert!(running.child.try_wait().unwrap().is_none());
    running.signal(Signal::SIGTERM);
    assert_eq!(running.exit_code(), Some(0));
    assert_eq!(running.rest_of_lines(), Vec::<String>::new());
}

#[test]
fn agent_killed_from_outside_is_restarted() {
    let mut harness = Harness::new("[ $n = 1 ] || exit 0; exec sleep 1000");
    let mut running = harness.start();
    let agent = running.run(1);
    running.state(|state| state["agent_pid"] == agent.as_raw());
    kill(agent, Signal::SIGKILL).unwrap();
    running.run(2);
    eventually("the first agent is gone", || (!is_alive(agent)).then_some(()));
    assert_eq!(running.exit_code(), Some(0));
}
