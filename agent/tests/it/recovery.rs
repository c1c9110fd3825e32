//! Executions after a crash, a kill or a full disk, with real shims.

use std::fs;
use std::process::Command;

use crate::support::{Host, program, result, settled, sha256, until, wait_for};
use muster_agent::executions::ExecutionEvent;
use muster_agent::executions::ledger::KnownState;
use muster_agent::executions::ledger::record::StartedRecord;
use muster_agent::platform::{ProcessStat, Signal, boot_id, signal_process};
use muster_agent::{executions, storage};
use muster_protocol::frame::{InventoryState, Outcome};
use uuid::Uuid;

#[tokio::test]
async fn an_execution_whose_shim_is_killed_is_lost_and_leaves_no_processes() {
    let host = Host::new();
    let script = host.script(
        "orphan.sh",
        "echo said; (setsid sleep 1000 &) ; trap '' TERM HUP; while :; do sleep 0.05; done",
    );
    let command = host.command(script);
    let id = command.command_id;
    let mut executions = host.executions(1);
    executions.accept(vec![command]);
    wait_for(&mut executions, |_| !host.output(id).stdout.is_empty()).await;
    let shim = executions::holder(&host.state.execution(id)).expect("the lock is signed").shim_pid;
    signal_process(shim, Signal::Kill);
    let response = settled(&mut executions, id).await;
    assert_eq!(response.outcome, Some(Outcome::Lost));
    let result = result(&response);
    assert!(!result.output_complete);
    assert_eq!(result.output_bytes, 5);
    assert_eq!(host.output(id).both, b"said\n");
    // The output of a lost execution is signed as well.
    assert_eq!(result.output_sha256, Some(sha256(b"said\n")));
    assert_eq!(result.stdout_sha256, Some(sha256(b"said\n")));
    assert_eq!(result.stderr_sha256, Some(sha256(b"")));
    assert_eq!(host.processes_of(id), Vec::<u32>::new());
    // And it is not started again.
    drop(executions);
    let executions = host.executions(1);
    assert_eq!(executions.running_count(), 0);
    assert_eq!(executions.inventory()[0].state, InventoryState::Settled);
}

#[tokio::test]
async fn an_execution_outlives_the_agent_and_is_reported_by_the_next_one() {
    let host = Host::new();
    let script =
        host.script("long.sh", "echo one; while [ ! -e go ]; do sleep 0.02; done; echo two");
    let command = host.command(script);
    let id = command.command_id;
    let mut executions = host.executions(1);
    executions.accept(vec![command]);
    wait_for(&mut executions, |_| !host.output(id).stdout.is_empty()).await;
    drop(executions);

    let mut executions = host.executions(1);
    assert_eq!(executions.running_count(), 1);
    let item = executions.inventory()[0];
    assert_eq!((item.state, item.offset_bytes), (InventoryState::Running, 4));
    fs::write(host.state.scripts().join("go"), "").expect("written");
    let response = settled(&mut executions, id).await;
    assert_eq!(response.outcome, Some(Outcome::Succeeded));
    assert_eq!(host.output(id).both, b"one\ntwo\n");
}

#[tokio::test]
async fn an_execution_that_ends_without_an_agent_keeps_its_result() {
    let host = Host::new();
    let script = host.script("short.sh", "while [ ! -e go ]; do sleep 0.02; done; exit 7");
    let command = host.command(script);
    let id = command.command_id;
    let mut executions = host.executions(1);
    executions.accept(vec![command]);
    wait_for(&mut executions, |event| event == ExecutionEvent::Started(id)).await;
    drop(executions);
    fs::write(host.state.scripts().join("go"), "").expect("written");
    let exit = host.state.execution(id).exit();
    until("the shim writes its record", || {
        fs::read(&exit).is_ok_and(|bytes| bytes.first().is_some_and(|byte| *byte != 0))
    })
    .await;
    let mut executions = host.executions(1);
    let response = settled(&mut executions, id).await;
    assert_eq!(result(&response).exit_code, Some(7));
}

#[tokio::test]
async fn a_full_disk_loses_output_but_never_the_result() {
    let host = Host::new();
    let command = host.command(host.script("much.sh", "head -c 5000000 /dev/zero; echo end >&2"));
    let id = command.command_id;
    let mut executions = host.executions_on_small_disk(1024);
    executions.accept(vec![command]);
    let response = settled(&mut executions, id).await;
    assert_eq!(response.outcome, Some(Outcome::Succeeded), "{response:?}");
    let result = result(&response);
    assert!(!result.output_complete && result.dropped_bytes > 0, "{result:?}");
    assert_eq!(result.output_bytes + result.dropped_bytes, 5_000_004);
    let output = host.output(id).both;
    assert_eq!(result.output_bytes, output.len() as u64);
    assert!(!output.is_empty());
    assert_eq!(result.output_sha256, Some(sha256(&output)));
}

#[tokio::test]
async fn a_cancelled_command_stays_cancelled_even_if_the_disk_was_full() {
    let host = Host::new();
    let blocker = host.command(host.script("block.sh", "while [ ! -e go ]; do sleep 0.02; done"));
    let waiting = host.command(host.script("mark.sh", "touch ran"));
    let (first, second) = (blocker.command_id, waiting.command_id);
    let mut executions = host.executions(1);
    executions.accept(vec![blocker, waiting]);
    // In the way of the new file that the answer would be written to.
    fs::create_dir(host.state.execution(second).path().join("settled.new")).expect("created");
    executions.cancel(second, 0);
    drop(executions);
    fs::write(host.state.scripts().join("go"), "").expect("written");
    let mut executions = host.executions(1);
    let response = executions.ledger().response(second).expect("kept");
    assert_eq!(response.outcome, Some(Outcome::Cancelled));
    if executions.ledger().response(first).is_none() {
        settled(&mut executions, first).await;
    }
    assert!(!host.state.scripts().join("ran").exists(), "it never ran");
}

#[tokio::test]
async fn an_acceptance_interrupted_by_a_crash_does_not_count() {
    let host = Host::new();
    let command = host.command(host.script("a.sh", "touch ran"));
    let id = command.command_id;
    let execution = host.state.execution(id);
    fs::create_dir(execution.path()).expect("created");
    fs::write(execution.command(), b"{\"version\":1,").expect("written");
    let mut executions = host.executions(1);
    assert_eq!(executions.ledger().known(id), KnownState::Never);
    assert!(!execution.path().exists());
    // So that it can be delivered again, and runs.
    executions.accept(vec![command]);
    assert_eq!(settled(&mut executions, id).await.outcome, Some(Outcome::Succeeded));
}

#[tokio::test]
async fn a_start_mark_without_a_result_means_lost_after_a_crash() {
    let host = Host::new();
    let command = host.command(host.script("a.sh", "while [ ! -e go ]; do sleep 0.02; done"));
    let id = command.command_id;
    let mut executions = host.executions(1);
    executions.accept(vec![command]);
    wait_for(&mut executions, |event| event == ExecutionEvent::Started(id)).await;
    drop(executions);
    let execution = host.state.execution(id);
    let shim = executions::holder(&execution).expect("the lock is signed").shim_pid;
    signal_process(shim, Signal::Kill);
    until("the lock is free", || muster_agent::platform::FileLock::take(&execution.lock()).is_ok())
        .await;
    let mut executions = host.executions(1);
    let response = settled(&mut executions, id).await;
    assert_eq!(response.outcome, Some(Outcome::Lost));
    assert!(
        storage::read_sealed::<serde_json::Value>(&execution.settled())
            .expect("readable")
            .is_some()
    );
}

#[tokio::test]
async fn a_shim_started_late_by_a_previous_agent_is_found_after_a_second_shim() {
    let host = Host::new();
    let command =
        host.command(host.script("a.sh", "echo x >> runs; while [ ! -e go ]; do sleep 0.02; done"));
    let id = command.command_id;
    let mut first = host.executions(1);
    first.accept(vec![command]);
    // At once, before the first shim can have signed its lock.
    drop(first);
    let mut executions = host.executions(1);
    until("the script runs", || host.state.scripts().join("runs").exists()).await;
    fs::write(host.state.scripts().join("go"), "").expect("written");
    assert_eq!(settled(&mut executions, id).await.outcome, Some(Outcome::Succeeded));
    let runs = fs::read_to_string(host.state.scripts().join("runs")).expect("it ran");
    assert_eq!(runs, "x\n", "once");
}

#[tokio::test]
async fn a_shim_that_starts_late_is_found_and_ended_by_a_cancellation() {
    let host = Host::new();
    let blocker = host.command(host.script("block.sh", "while [ ! -e go ]; do sleep 0.02; done"));
    let late = host.command(host.script("loop.sh", "touch up; while :; do sleep 0.02; done"));
    let (first, second) = (blocker.command_id, late.command_id);
    let mut executions = host.executions(1);
    executions.accept(vec![blocker, late]);
    // As an agent would have started it just before its own end.
    let mut shim =
        executions::start_shim(&program(), &host.state.execution(second)).expect("started");
    until("the script runs", || host.state.scripts().join("up").exists()).await;
    executions.cancel(second, 0);
    let response = settled(&mut executions, second).await;
    assert_eq!(response.outcome, Some(Outcome::Cancelled));
    assert!(result(&response).signal.is_some(), "it ran, and its end is reported");
    shim.wait().expect("collected");
    fs::write(host.state.scripts().join("go"), "").expect("written");
    settled(&mut executions, first).await;
}

#[tokio::test]
async fn a_shim_that_starts_after_the_result_was_written_runs_nothing() {
    let host = Host::new();
    let blocker = host.command(host.script("block.sh", "while [ ! -e go ]; do sleep 0.02; done"));
    let late = host.command(host.script("mark.sh", "touch ran"));
    let (first, second) = (blocker.command_id, late.command_id);
    let mut executions = host.executions(1);
    executions.accept(vec![blocker, late]);
    executions.cancel(second, 0);
    let mut shim =
        executions::start_shim(&program(), &host.state.execution(second)).expect("started");
    assert!(!shim.wait().expect("collected").success());
    assert!(!host.state.scripts().join("ran").exists(), "it never ran");
    fs::write(host.state.scripts().join("go"), "").expect("written");
    settled(&mut executions, first).await;
}

#[tokio::test]
async fn a_receipt_just_before_a_crash_does_not_reduce_the_acceptance_count() {
    let host = Host::new();
    let command = host.command(host.script("a.sh", "true"));
    let id = command.command_id;
    let mut executions = host.executions(1);
    executions.accept(vec![command]);
    settled(&mut executions, id).await;
    executions.ledger_mut().receipt(id);
    drop(executions);
    // A smaller count would look like a ledger that has lost what it held.
    assert_eq!(host.executions(1).ledger().head().acceptance_count, 1);
    assert_eq!(host.executions(1).ledger().head().acceptance_count, 1);
}

#[test]
fn a_session_that_reuses_the_number_of_a_dead_shim_is_not_killed() {
    // Another process adopts it: what the agent adopts belongs to a shim that vanished.
    let text = "setsid sleep 1000 >/dev/null 2>&1 & echo $!";
    let starter = Command::new("sh").args(["-c", text]).output().expect("started");
    let pid: u32 = String::from_utf8_lossy(&starter.stdout).trim().parse().expect("a number");
    let of = || ProcessStat::of(pid).expect("it lives");
    while of().session != pid {
        std::thread::yield_now();
    }
    let started = StartedRecord {
        boot_id: boot_id(),
        shim_pid: pid,
        shim_start_ticks: of().start_ticks.saturating_sub(1),
    };
    assert!(executions::kill_orphans(Uuid::now_v7(), Some(&started)));
    assert!(ProcessStat::of(pid).is_some_and(|it| !it.is_zombie), "the stranger lives");
    Command::new("kill").args(["-9", &pid.to_string()]).status().expect("ended");
}
