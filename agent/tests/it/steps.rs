//! Executions of several steps, by a real shim.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use muster_agent::executions::ledger::NewCommand;
use muster_agent::executions::ledger::record::{ParameterRecord, Settlement, StepLaunch};
use muster_agent::executions::{self, ExecutionEvent};
use muster_agent::platform::{Signal, signal_process};
use muster_agent::storage;
use muster_protocol::commands::step::{OnFailure, StepResult, StepState};
use muster_protocol::frame::Outcome;
use muster_protocol::parameter::Parameters;
use muster_protocol::parameter::secret_parameters::SecretDelivery;

use crate::support::{Host, result, settled, sha256, wait_for};

/// A command that runs these texts, each as a script of its own.
fn command(host: &Host, steps: &[(&str, OnFailure)]) -> NewCommand {
    let mut command = host.command(String::new());
    let launch = command.launch.as_mut().expect("an execute");
    launch.script = Some("steps:test".into());
    for (number, (text, on_failure)) in steps.iter().enumerate() {
        let path = host.script(&format!("step-{number}.sh"), text);
        let one = host.command(path).launch.expect("an execute");
        let name = Some(format!("Step {number}"));
        launch.steps.push(StepLaunch { name, on_failure: *on_failure, launch: one });
        command.parameters.steps.push(ParameterRecord::default());
    }
    command
}

fn stop<'a>(texts: &[&'a str]) -> Vec<(&'a str, OnFailure)> {
    texts.iter().map(|text| (*text, OnFailure::Stop)).collect()
}

fn states(steps: &[StepResult]) -> Vec<StepState> {
    steps.iter().map(|step| step.state).collect()
}

#[tokio::test]
async fn steps_run_in_order_with_results_and_output_of_their_own() {
    let host = Host::new();
    let mut command = command(&host, &stop(&["printf a1; printf a2 >&2", "true", "echo $WHO"]));
    command.parameters.steps[2].parameters.insert("WHO".into(), "me".into());
    let id = command.command_id;
    let mut executions = host.executions(1);
    executions.accept(vec![command]);
    let response = settled(&mut executions, id).await;
    assert_eq!((response.outcome, &response.error), (Some(Outcome::Succeeded), &None));
    let result = result(&response);
    assert_eq!(states(&result.steps), [StepState::Succeeded; 3]);
    let parts: Vec<_> = result.steps.iter().map(|step| (step.from_bytes, step.to_bytes)).collect();
    assert_eq!(parts, [(0, 4), (4, 4), (4, 7)]);
    assert!(host.output(id).both.ends_with(b"me\n"));
    assert_eq!(result.output_sha256, Some(sha256(&host.output(id).both)));
    assert_eq!((result.exit_code, result.output_bytes), (Some(0), 7));
    assert!(result.steps.iter().all(|step| step.started_at_ms.is_some()));
    assert_eq!(result.steps[1].name.as_deref(), Some("Step 1"));
    // What the attestation says that they ran.
    let stored: Option<Settlement> =
        storage::read_sealed(&host.state.execution(id).exit()).expect("readable");
    let Some(Settlement::Exit(exit)) = stored else { panic!("an exit record") };
    let run = exit.run.expect("it ran");
    let hash_of = |number: usize| {
        let path = host.state.scripts().join(format!("step-{number}.sh"));
        Some(sha256(&fs::read(path).expect("a script")))
    };
    let hashes: Vec<_> = run.steps.iter().map(|step| step.program_sha256.clone()).collect();
    assert_eq!(hashes, [hash_of(0), hash_of(1), hash_of(2)]);
    assert_eq!((run.script.as_deref(), run.program_sha256), (Some("steps:test"), None));
}

#[tokio::test]
async fn a_step_that_fails_skips_the_others_unless_it_says_continue() {
    let host = Host::new();
    let mut executions = host.executions(1);
    let stopping = command(&host, &stop(&["exit 7", "touch ran"]));
    let id = stopping.command_id;
    executions.accept(vec![stopping]);
    let response = settled(&mut executions, id).await;
    let stopped = result(&response);
    assert_eq!(states(&stopped.steps), [StepState::Failed, StepState::Skipped]);
    assert_eq!((response.outcome, stopped.exit_code), (Some(Outcome::Failed), Some(7)));
    let text = "step 1 (Step 0) exited with code 7; 1 step was skipped";
    assert_eq!(response.error.as_deref(), Some(text));
    assert_eq!(response.error_code.as_deref(), Some("step_failed"));
    assert!(!host.state.scripts().join("ran").exists());

    let steps = [("exit 7", OnFailure::Continue), ("kill -9 $$", OnFailure::Continue)];
    let steps = [&steps[..], &stop(&["touch ran"])].concat();
    let continuing = command(&host, &steps);
    let id = continuing.command_id;
    executions.accept(vec![continuing]);
    let response = settled(&mut executions, id).await;
    let all = result(&response);
    let expected = [StepState::Failed, StepState::Failed, StepState::Succeeded];
    assert_eq!(states(&all.steps), expected);
    assert_eq!(response.outcome, Some(Outcome::Failed), "also if the last one succeeded");
    assert_eq!((all.exit_code, all.steps[1].signal), (Some(7), Some(9)));
    assert!(host.state.scripts().join("ran").exists());
}

#[tokio::test]
async fn a_step_has_a_time_limit_of_its_own_and_all_share_one() {
    let host = Host::new();
    let mut executions = host.executions(1);
    let mut own =
        command(&host, &[("sleep 1000", OnFailure::Continue), ("echo b", OnFailure::Stop)]);
    own.launch.as_mut().expect("an execute").steps[0].launch.timeout_ms = 50;
    let id = own.command_id;
    executions.accept(vec![own]);
    let response = settled(&mut executions, id).await;
    let ended = result(&response);
    assert_eq!(states(&ended.steps), [StepState::TimedOut, StepState::Succeeded]);
    assert_eq!(response.outcome, Some(Outcome::Failed));

    let steps = [("sleep 1000", OnFailure::Continue), ("touch ran", OnFailure::Continue)];
    let mut shared = command(&host, &steps);
    shared.launch.as_mut().expect("an execute").timeout_ms = 50;
    let id = shared.command_id;
    executions.accept(vec![shared]);
    let response = settled(&mut executions, id).await;
    let ended = result(&response);
    assert_eq!(states(&ended.steps), [StepState::TimedOut, StepState::Skipped]);
    assert_eq!(response.outcome, Some(Outcome::TimedOut));
    assert!(!host.state.scripts().join("ran").exists());
}

#[tokio::test]
async fn a_cancelled_execution_ends_its_step_and_starts_no_other() {
    let host = Host::new();
    let steps = [
        ("echo on; while :; do sleep 0.02; done", OnFailure::Continue),
        ("touch ran", OnFailure::Continue),
    ];
    let command = command(&host, &steps);
    let id = command.command_id;
    let mut executions = host.executions(1);
    executions.accept(vec![command]);
    wait_for(&mut executions, |_| !host.output(id).stdout.is_empty()).await;
    executions.cancel(id, 1_000);
    let response = settled(&mut executions, id).await;
    assert_eq!(response.outcome, Some(Outcome::Cancelled));
    assert_eq!(states(&result(&response).steps), [StepState::Cancelled, StepState::Skipped]);
    assert!(!host.state.scripts().join("ran").exists());
}

#[tokio::test]
async fn steps_outlive_the_agent_and_none_runs_twice() {
    let host = Host::new();
    let wait = "echo x >> count; while [ ! -e go ]; do sleep 0.02; done";
    let command = command(&host, &stop(&[wait, "echo y >> count; echo done"]));
    let id = command.command_id;
    let mut executions = host.executions(1);
    executions.accept(vec![command]);
    let count = host.state.scripts().join("count");
    wait_for(&mut executions, |_| executions_started(&host, id)).await;
    drop(executions);
    let mut executions = host.executions(1);
    assert_eq!(executions.running_count(), 1);
    fs::write(host.state.scripts().join("go"), "").expect("written");
    let response = settled(&mut executions, id).await;
    assert_eq!(response.outcome, Some(Outcome::Succeeded));
    assert_eq!(fs::read_to_string(count).expect("written"), "x\ny\n");
}

fn executions_started(host: &Host, id: uuid::Uuid) -> bool {
    host.state.execution(id).started().exists()
}

#[tokio::test]
async fn steps_whose_shim_is_killed_between_them_are_lost_and_never_start_again() {
    let host = Host::new();
    let wait = "echo x >> count; echo second; while :; do sleep 0.02; done";
    let command = command(&host, &stop(&["echo x >> count; echo first", wait, "touch ran"]));
    let id = command.command_id;
    let mut executions = host.executions(1);
    executions.accept(vec![command]);
    // The start of each step is an event of its own.
    let mut announced = 0;
    while announced < 2 {
        wait_for(&mut executions, |event| event == ExecutionEvent::Steps(id)).await;
        let progress = executions.step_progress(id).expect("it runs");
        announced = progress.ended.len() + 1;
        assert!(progress.running.is_some(), "{progress:?}");
    }
    wait_for(&mut executions, |_| host.output(id).stdout.ends_with(b"second\n")).await;
    let progress = executions.step_progress(id).expect("it runs");
    assert_eq!(states(&progress.ended), [StepState::Succeeded]);
    assert_eq!(progress.running.map(|running| running.from_bytes), Some(6));
    let shim = executions::holder(&host.state.execution(id)).expect("the lock is signed").shim_pid;
    signal_process(shim, Signal::Kill);
    let response = settled(&mut executions, id).await;
    assert_eq!(response.outcome, Some(Outcome::Lost));
    // What is known of them is reported.
    assert_eq!(result(&response).steps, progress.ended);
    drop(executions);
    assert_eq!(host.executions(1).running_count(), 0);
    let count = fs::read_to_string(host.state.scripts().join("count")).expect("written");
    assert_eq!(count, "x\nx\n", "each of the two steps ran once");
    assert!(!host.state.scripts().join("ran").exists());
}

#[tokio::test]
async fn nothing_starts_if_the_file_of_any_step_is_not_the_listed_one() {
    let host = Host::new();
    let mut command = command(&host, &stop(&["touch ran", "true"]));
    command.launch.as_mut().expect("an execute").steps[1].launch.sha256 = Some("0".repeat(64));
    let id = command.command_id;
    let mut executions = host.executions(1);
    executions.accept(vec![command]);
    let response = settled(&mut executions, id).await;
    assert_eq!(response.outcome, Some(Outcome::Rejected));
    assert_eq!(response.error_code.as_deref(), Some("hash_mismatch"));
    assert!(response.error.is_some_and(|text| text.starts_with("step 2: ")));
    assert!(!host.state.scripts().join("ran").exists());
}

#[tokio::test]
async fn a_step_that_changes_the_file_of_a_later_one_does_not_make_it_run() {
    let host = Host::new();
    let change = "printf '#!/bin/sh\\ntouch ran\\n' > step-1.sh";
    let steps = [
        (change, OnFailure::Continue),
        ("true", OnFailure::Continue),
        ("echo end", OnFailure::Stop),
    ];
    let mut command = command(&host, &steps);
    let listed = fs::read(host.state.scripts().join("step-1.sh")).expect("a script");
    command.launch.as_mut().expect("an execute").steps[1].launch.sha256 = Some(sha256(&listed));
    let id = command.command_id;
    let mut executions = host.executions(1);
    executions.accept(vec![command]);
    let response = settled(&mut executions, id).await;
    let ended = result(&response);
    let expected = [StepState::Succeeded, StepState::Failed, StepState::Succeeded];
    assert_eq!(states(&ended.steps), expected);
    assert!(ended.steps[1].error.as_ref().is_some_and(|text| text.contains("SHA-256")));
    assert_eq!(response.outcome, Some(Outcome::Failed));
    assert!(!host.state.scripts().join("ran").exists());
}

#[tokio::test]
async fn secrets_are_masked_in_all_steps_and_reach_only_their_own() {
    let host = Host::new();
    let own = "echo \"own $(cat \"$TOKEN\")\"; printf %s \"$TOKEN\" > path; cat \"$TOKEN\" > kept";
    let other = "echo \"other $(cat kept) [$TOKEN]\"; ls \"$(dirname \"$(cat path)\")\" 2>&1 | grep -c TOKEN";
    let mut command = command(&host, &[(own, OnFailure::Stop), (other, OnFailure::Continue)]);
    let launch = command.launch.as_mut().expect("an execute");
    launch.steps[0].launch.secrets = SecretDelivery::File;
    let secrets = Parameters::from([("TOKEN".into(), "hunter2-hunter2".into())]);
    command.parameters.steps[0].secret_parameters = secrets.into();
    let id = command.command_id;
    let mut executions = host.executions(1);
    executions.accept(vec![command]);
    settled(&mut executions, id).await;
    let text = String::from_utf8(host.output(id).both).expect("text");
    assert_eq!(text, "own ***\nother *** []\n0\n");
}

#[tokio::test]
async fn every_step_runs_as_the_user_of_the_policy() {
    let host = Host::new();
    let parent = host.state.path().parent().expect("a folder of its own");
    fs::set_permissions(parent, fs::Permissions::from_mode(0o755)).expect("opened");
    host.state.grant_script_access().expect("opened");
    let mut command = command(&host, &stop(&["id -un", "id -un"]));
    command.launch.as_mut().expect("an execute").run_as = Some("nobody".into());
    let id = command.command_id;
    let mut executions = host.executions(1);
    executions.accept(vec![command]);
    assert_eq!(settled(&mut executions, id).await.outcome, Some(Outcome::Succeeded));
    assert_eq!(host.output(id).stdout, b"nobody\nnobody\n");
}
