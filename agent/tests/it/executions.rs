//! Executions in the hands of real shims: the agent's promises, kept by real processes.

use std::fs;
use std::time::{Duration, Instant};

use crate::support::{Host, Output, result, settled, sha256, until, wait_for};
use muster_agent::executions;
use muster_agent::executions::ExecutionEvent;
use muster_agent::executions::ledger::record::Launch;
use muster_agent::executions::ledger::{KnownState, NewCommand};
use muster_agent::platform::{BootInstant, ProcessStat, all_processes};
use muster_protocol::commands::probe;
use muster_protocol::commands::stdin::{MAX_STDIN_BYTES, Stdin};
use muster_protocol::frame::Outcome;
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
async fn a_probe_starts_the_agents_own_program_although_the_launch_names_a_script() {
    let host = Host::new();
    let command = host.command(host.script("other.sh", "echo other"));
    let command = with(command, |launch| launch.is_probe = true);
    let id = command.command_id;
    let mut executions = host.executions(1);
    executions.accept(vec![command]);
    let response = settled(&mut executions, id).await;
    assert_eq!(response.outcome, Some(Outcome::Succeeded), "{response:?}");
    let expected = probe::output(muster_protocol::program::version::own());
    assert_eq!(host.output(id).both, expected.as_bytes());
}

#[tokio::test]
async fn input_is_byte_exact_and_can_be_opened_again() {
    let host = Host::new();
    let bytes: Vec<u8> = (0..=255).cycle().take(MAX_STDIN_BYTES).collect();
    let mut command = host.command(host.script("input.sh", "cat; cat /dev/stdin >&2; ls \"$DIR\""));
    let id = command.command_id;
    let folder = host.state.execution(id);
    let shown = folder.path().display().to_string();
    command.parameters.parameters.insert("DIR".into(), shown);
    command.parameters.stdin = Some(Stdin::new(bytes.clone()).expect("the most"));
    let mut executions = host.executions(1);
    executions.accept(vec![command]);
    assert_eq!(settled(&mut executions, id).await.outcome, Some(Outcome::Succeeded));
    let Output { stdout, stderr, .. } = host.output(id);
    assert!(stdout.starts_with(&bytes) && stderr == bytes, "the bytes are those of the request");
    let files = String::from_utf8_lossy(&stdout[bytes.len()..]).into_owned();
    assert!(!files.lines().any(|name| name == "stdin"), "the file has no name: {files}");
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
