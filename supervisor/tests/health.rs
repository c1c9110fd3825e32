//! `muster-supervisor health` while a supervisor runs.

#![cfg(unix)]

mod harness;

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Output};

use harness::Harness;
use nix::sys::stat::Mode;

fn ask(harness: &Harness) -> Output {
    let mut health = Command::new(env!("CARGO_BIN_EXE_muster-supervisor"));
    health.arg("health").env("MUSTER_STATE_DIR", harness.path("state")).output().unwrap()
}

#[test]
fn host_is_healthy_during_a_download_and_unhealthy_once_its_agent_cannot_work() {
    let mut harness = Harness::new(
        r#"case $1 in
        fetch-release) read -r _ <go; exit 1 ;;
        esac
        [ "$n" != 1 ] || { echo '{"version": "0.2.0"}' >"$MUSTER_STATE_DIR/update_request.json"; exit 43; }
        echo 'the key was deleted' >"$MUSTER_STATE_DIR/fatal_reason"; exit 99"#,
    );
    let before = ask(&harness);
    assert_eq!(before.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&before.stderr).contains("is the supervisor running?"));

    let versions = harness.path("program/versions");
    fs::create_dir_all(&versions).unwrap();
    symlink("0.1.0", versions.join("current")).unwrap();
    nix::unistd::mkfifo(&harness.path("go"), Mode::S_IRWXU).unwrap();
    let program = harness.path("program").display().to_string();
    harness.set("MUSTER_DIR", &program).set("MUSTER_PARK", "1");
    let mut running = harness.start();
    running.run(1);
    running.state(|state| state["state"] == "updating");
    let during = ask(&harness);
    assert!(during.status.success(), "{during:?}");
    assert_eq!(String::from_utf8_lossy(&during.stdout), "updating: downloading version 0.2.0\n");

    // The download fails, and the restarted agent has no key any more.
    fs::write(harness.path("go"), "\n").unwrap();
    running.run(3);
    running.state(|state| state["state"] == "parked");
    let after = ask(&harness);
    assert_eq!(after.status.code(), Some(1));
    let text = String::from_utf8_lossy(&after.stderr).into_owned();
    assert!(text.contains("parked") && text.contains("the key was deleted"), "{text}");
    running.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(running.exit_code(), Some(0));
}
