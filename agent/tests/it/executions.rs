//! Executions in the hands of real shims: the agent's promises, kept by real processes.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{Host, Output, program, result, settled, sha256, until, wait_for};
use muster_agent::executions::ExecutionEvent;
use muster_agent::executions::ledger::record::{Launch, StartedRecord};
use muster_agent::executions::ledger::{KnownState, NewCommand};
use muster_agent::platform::{
    BootInstant, ProcessStat, Signal, all_processes, boot_id, signal_process,
};
use muster_agent::{executions, storage};
use muster_protocol::frame::{InventoryState, Outcome};
use uuid::Uuid;

fn with(command: NewCommand, change: impl FnOnce(&mut Launch)) -> NewCommand {
    let mut command = command;
    change(command.launch.as_mut().expect("an execute"));
    command
}

fn pid_in(path: &std::path::Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[tokio::test]
async fn output_is_byte_exact_and_has_its_hash() {
    let host = Host::new();
    let bytes: Vec<u8> = (0..300_000u32).flat_map(|n| n.to_le_bytes()).collect();
    fs::write(host.state.scripts().join("bytes"), &bytes).expect("written");
    let script = host.script("both.sh", "cat bytes; cat bytes >&2; exit 3");
    let command = host.command(script);
    let id = command.command_id;
    let mut executions = host.executions(4);
    assert!(matches!(executions.accept(vec![command])[..], [(_, Ok(1))]));
    let response = settled(&mut executions, id).await;
    assert_eq!(response.outcome, Some(Outcome::Failed));
    let result = result(&response);
    let Output { stdout, stderr, both } = host.output(id);
    assert!(stdout == bytes && stderr == bytes, "the bytes are the child's");
    assert_eq!(result.exit_code, Some(3));
    assert_eq!(result.output_bytes, both.len() as u64);
    assert_eq!(result.output_sha256, Some(sha256(&both)));
    assert_eq!(result.stdout_sha256, Some(sha256(&stdout)));
    assert_eq!(result.stderr_sha256, Some(sha256(&stderr)));
    assert!(result.output_complete);
}

#[tokio::test]
async fn the_child_gets_its_parameters_and_nothing_of_the_agents_secrets() {
    let host = Host::new();
    let mut command = host.command(host.script("env.sh", "env; pwd"));
    command.parameters.parameters.insert("WHO".into(), "me; touch /tmp/no $(id)".into());
    let id = command.command_id;
    // SAFETY: nextest runs every test in a process of its own, and nothing else runs yet.
    unsafe {
        std::env::set_var("MUSTER_API_KEY", "mst_agent_secret");
        std::env::set_var("LD_LIBRARY_PATH", "/nowhere");
        std::env::set_var("LC_TIME", "C");
    }
    let mut executions = host.executions(1);
    executions.accept(vec![command]);
    assert_eq!(settled(&mut executions, id).await.outcome, Some(Outcome::Succeeded));
    let text = String::from_utf8(host.output(id).stdout).expect("text");
    assert!(text.contains("WHO=me; touch /tmp/no $(id)\n"), "{text}");
    assert!(text.contains(&format!("MUSTER_COMMAND_ID={id}")), "{text}");
    assert!(text.contains("LC_TIME=C"), "{text}");
    assert!(!text.contains("secret") && !text.contains("/nowhere"), "{text}");
    assert!(text.trim_end().ends_with("/scripts"), "{text}");
    assert!(!host.state.execution(id).parameters().exists(), "values are gone once it is settled");
}

#[tokio::test]
async fn a_child_that_ignores_term_is_killed_after_the_grace() {
    let host = Host::new();
    let script = host.script("deaf.sh", "trap '' TERM; echo ready; while :; do sleep 0.05; done");
    let command = host.command(script);
    let id = command.command_id;
    let mut executions = host.executions(1);
    executions.accept(vec![command]);
    wait_for(&mut executions, |_| !host.output(id).stdout.is_empty()).await;
    let asked = Instant::now();
    executions.cancel(id, 300);
    executions.cancel(id, 60_000);
    let response = settled(&mut executions, id).await;
    assert!(asked.elapsed() >= Duration::from_millis(300), "the grace is granted");
    assert_eq!(response.outcome, Some(Outcome::Cancelled));
    assert_eq!(result(&response).signal, Some(9));
}

#[tokio::test]
async fn a_child_that_handles_term_ends_at_once_and_its_last_output_is_stored() {
    let host = Host::new();
    let script = host.script(
        "polite.sh",
        "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done",
    );
    let command = host.command(script);
    let id = command.command_id;
    let mut executions = host.executions(1);
    executions.accept(vec![command]);
    wait_for(&mut executions, |_| !host.output(id).stdout.is_empty()).await;
    executions.cancel(id, 30_000);
    let response = settled(&mut executions, id).await;
    assert_eq!(response.outcome, Some(Outcome::Cancelled));
    assert_eq!(result(&response).exit_code, Some(0));
    assert_eq!(host.output(id).stdout, b"ready\nbye\n");
}

#[tokio::test]
async fn a_daemon_that_a_script_starts_is_killed_when_the_script_ends() {
    let host = Host::new();
    // A session and an environment of its own, and a parent that is gone.
    let script = host.script(
        "daemon.sh",
        "(env -i setsid /bin/sh -c 'trap \"\" TERM HUP; echo $$ > pid; while :; do sleep 0.05; done' &) \n\
         while [ ! -s pid ]; do sleep 0.01; done; echo done",
    );
    let command = host.command(script);
    let id = command.command_id;
    let mut executions = host.executions(1);
    executions.accept(vec![command]);
    let response = settled(&mut executions, id).await;
    assert_eq!(response.outcome, Some(Outcome::Succeeded));
    let pid = pid_in(&host.state.scripts().join("pid")).expect("the daemon wrote its number");
    assert!(ProcessStat::of(pid).is_none_or(|process| process.is_zombie), "the daemon is gone");
    assert!(result(&response).output_complete);
}

#[tokio::test]
async fn a_script_that_prints_endlessly_is_ended_by_its_time_limit() {
    let host = Host::new();
    let command = with(host.command(host.script("yes.sh", "yes")), |launch| {
        launch.timeout_ms = 300;
        launch.output_limit_bytes = 1_000_000;
    });
    let id = command.command_id;
    let mut executions = host.executions(1);
    executions.accept(vec![command]);
    let response = settled(&mut executions, id).await;
    assert_eq!(response.outcome, Some(Outcome::TimedOut));
    let result = result(&response);
    assert_eq!(result.output_bytes, 1_000_000);
    assert_eq!(host.output(id).both.len(), 1_000_000);
    assert!(result.dropped_bytes > 0 && !result.output_complete);
    assert_eq!(result.output_sha256, Some(sha256(&host.output(id).both)));
}

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
async fn a_command_cancelled_while_it_waits_never_starts() {
    let host = Host::new();
    let blocker = host.command(host.script("block.sh", "while [ ! -e go ]; do sleep 0.02; done"));
    let waiting = host.command(host.script("mark.sh", "touch ran"));
    let (first, second, unseen) = (blocker.command_id, waiting.command_id, Uuid::now_v7());
    let mut executions = host.executions(1);
    executions.accept(vec![blocker, waiting]);
    executions.cancel(second, 0);
    executions.cancel(unseen, 0);
    for id in [second, unseen] {
        let response = executions.ledger().response(id).expect("settled at once");
        assert_eq!(response.outcome, Some(Outcome::Cancelled));
    }
    fs::write(host.state.scripts().join("go"), "").expect("written");
    assert_eq!(settled(&mut executions, first).await.outcome, Some(Outcome::Succeeded));
    drop(executions);
    let executions = host.executions(1);
    assert_eq!(executions.running_count(), 0);
    assert!(matches!(executions.ledger().known(unseen), KnownState::Open(_)));
    assert!(!host.state.scripts().join("ran").exists(), "it never ran");
}

#[tokio::test]
async fn at_most_max_executions_run_at_once_and_all_run_eventually() {
    let host = Host::new();
    let script = host
        .script("count.sh", "mkdir running 2>/dev/null || echo overlap; sleep 0.01; rmdir running");
    let commands: Vec<_> = (0..8).map(|_| host.command(script.clone())).collect();
    let ids: Vec<_> = commands.iter().map(|command| command.command_id).collect();
    let mut executions = host.executions(1);
    executions.accept(commands);
    for id in ids {
        if executions.ledger().response(id).is_none() {
            settled(&mut executions, id).await;
        }
        assert_eq!(host.output(id).stdout, b"", "two ran at once");
    }
}

#[tokio::test]
async fn a_command_past_its_start_deadline_expires_and_never_runs() {
    let host = Host::new();
    let blocker = host.command(host.script("block.sh", "while [ ! -e go ]; do sleep 0.02; done"));
    let mut late = host.command(host.script("mark.sh", "touch ran"));
    late.start_by = Some(BootInstant::after_ms(50));
    let mut other_boot = host.command("mark.sh".into());
    other_boot.start_by = Some(BootInstant { boot_id: "another".into(), at_ms: u64::MAX });
    let (first, late_id, other_id) = (blocker.command_id, late.command_id, other_boot.command_id);
    let mut executions = host.executions(1);
    executions.accept(vec![blocker, late, other_boot]);
    let response = settled(&mut executions, late_id).await;
    assert_eq!(response.outcome, Some(Outcome::Expired));
    let response = executions.ledger().response(other_id).expect("expired at once");
    assert_eq!(response.outcome, Some(Outcome::Expired));
    fs::write(host.state.scripts().join("go"), "").expect("written");
    settled(&mut executions, first).await;
    assert!(!host.state.scripts().join("ran").exists(), "it never ran");
}

#[tokio::test]
async fn a_script_that_differs_from_the_manifest_is_rejected_before_it_starts() {
    let host = Host::new();
    let name = host.script("a.sh", "touch ran");
    let changed = with(host.command(name), |launch| launch.sha256 = Some("0".repeat(64)));
    let missing = host.command("gone.sh".into());
    let unrunnable =
        with(host.command("a.sh".into()), |launch| launch.interpreter = Some("/no/such".into()));
    let expected = [
        (changed.command_id, Outcome::Rejected, "hash_mismatch"),
        (missing.command_id, Outcome::Rejected, "script_missing"),
        (unrunnable.command_id, Outcome::Failed, "not_started"),
    ];
    let mut executions = host.executions(1);
    executions.accept(vec![changed, missing, unrunnable]);
    for (id, outcome, code) in expected {
        if executions.ledger().response(id).is_none() {
            settled(&mut executions, id).await;
        }
        let response = executions.ledger().response(id).expect("settled");
        assert_eq!((response.outcome, response.error_code.as_deref()), (Some(outcome), Some(code)));
        assert!(response.error.is_some());
    }
    assert!(!host.state.scripts().join("ran").exists(), "it never ran");
}

#[tokio::test]
async fn a_receipt_deletes_the_output_and_keeps_the_response() {
    let host = Host::new();
    let command = host.command(host.script("a.sh", "echo hello"));
    let id = command.command_id;
    let mut executions = host.executions(1);
    executions.accept(vec![command]);
    let response = settled(&mut executions, id).await;
    executions.ledger_mut().receipt(id);
    assert!(!host.state.execution(id).output().exists());
    assert_eq!(executions.ledger().known(id), KnownState::Receipted);
    executions.run_maintenance();
    assert!(!host.state.execution(id).path().exists());
    drop(executions);
    let executions = host.executions(1);
    assert_eq!(executions.ledger().known(id), KnownState::Receipted);
    assert_eq!(executions.ledger().response(id), Some(response));
    assert_eq!(executions.ledger().head().acceptance_count, 1, "the count outlives the folders");
    assert!(executions.inventory().is_empty());
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

#[tokio::test]
async fn orphans_of_a_silent_script_are_reaped_while_it_runs() {
    let host = Host::new();
    let text = "for i in 1 2 3 4 5; do (sleep 0.1 &); done; touch up\n\
                while [ ! -e go ]; do sleep 0.05; done";
    let command = host.command(host.script("orphans.sh", text));
    let id = command.command_id;
    let mut executions = host.executions(1);
    executions.accept(vec![command]);
    wait_for(&mut executions, |event| event == ExecutionEvent::Started(id)).await;
    until("the script is that far", || host.state.scripts().join("up").exists()).await;
    let shim = executions::holder(&host.state.execution(id)).expect("the lock is signed").shim_pid;
    let children = || all_processes().into_iter().filter(move |it| it.parent == shim).count();
    until("only the script is left", || children() == 1).await;
    fs::write(host.state.scripts().join("go"), "").expect("written");
    assert_eq!(settled(&mut executions, id).await.outcome, Some(Outcome::Succeeded));
}

#[test]
fn a_session_that_reuses_the_number_of_a_dead_shim_is_not_killed() {
    let mut stranger = Command::new("setsid").arg("sleep").arg("1000").spawn().expect("started");
    let pid = stranger.id();
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
    assert!(stranger.try_wait().expect("looked at").is_none(), "the stranger lives");
    stranger.kill().expect("ended");
    stranger.wait().expect("collected");
}
