//! Tasks of a host without a server: due times, runs, and what a restart of the agent leaves of them.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use muster_agent::executions::ledger::record::ParameterRecord;
use muster_agent::executions::{
    ExecutionEvent, ExecutionManager, PlannedRun, RunPlanner, RunRefusal, remove_assignments,
};
use muster_agent::policy::minimum_versions::Minimum;
use muster_protocol::library::sha256_hex;
use muster_protocol::package::{AssignedItem, AssignmentState, PackageDocument, PackagePin};
use serde_json::json;
use uuid::Uuid;

use crate::support::{Host, wait_for};

const AGENT: Uuid = Uuid::from_u128(7);

/// Plans a script of the host, unless it must refuse.
#[derive(Debug)]
struct Planner {
    launch: muster_agent::executions::ledger::record::Launch,
    refuses: Arc<AtomicBool>,
}

impl RunPlanner for Planner {
    fn plan(&mut self, _: &AssignedItem) -> Result<PlannedRun, RunRefusal> {
        match self.refuses.load(Ordering::SeqCst) {
            true => Err(RunRefusal::new("library_not_allowed", "refused")),
            false => Ok(PlannedRun {
                launch: self.launch.clone(),
                parameters: ParameterRecord::default(),
                files: vec![],
                minimums: vec![],
            }),
        }
    }

    fn note_start(&mut self, _: &[Minimum]) -> Result<(), RunRefusal> {
        Ok(())
    }
}

/// A task that is due every second.
fn task(assignment: u128) -> AssignedItem {
    let document: PackageDocument = serde_json::from_value(json!({
        "format": 1, "name": "tick", "version": "1", "kind": "task", "executor": "sh",
        "entry": "run.sh", "schedule": {"every_ms": 1_000}, "sha256": sha256_hex(b"archive"),
        "archive_bytes": 7, "unpacked_bytes": 9,
    }))
    .expect("a document");
    let text = document.to_text();
    AssignedItem {
        assignment_id: Uuid::from_u128(assignment),
        name: "tick".into(),
        package: PackagePin {
            version: "1".into(),
            sha256: document.sha256,
            document_sha256: sha256_hex(text.as_bytes()),
        },
        document: text,
        signatures: vec![],
        parameters: Default::default(),
        control: None,
        script: None,
    }
}

/// An agent whose tasks run this script.
fn agent(host: &Host, script: &str, refuses: &Arc<AtomicBool>) -> ExecutionManager {
    let mut executions = host.executions(4);
    let launch = host.command(host.script("task.sh", script)).launch.expect("a launch");
    let planner = Planner { launch, refuses: Arc::clone(refuses) };
    executions.use_assignments(Box::new(planner)).expect("the assignments are read");
    executions
}

async fn next_run(executions: &mut ExecutionManager) -> Uuid {
    let mut known: BTreeSet<_> = executions.task_runs().into_iter().map(|(id, _)| id).collect();
    loop {
        wait_for(executions, |event| matches!(event, ExecutionEvent::TaskRun(_))).await;
        let runs = executions.task_runs().into_iter().map(|(id, _)| id);
        if let Some(id) = runs.into_iter().find(|id| known.insert(*id)) {
            return id;
        }
    }
}

fn lines(host: &Host) -> usize {
    fs::read_to_string(host.state.path().join("runs")).map_or(0, |text| text.lines().count())
}

#[tokio::test]
async fn a_task_runs_at_its_due_times_and_a_restart_repeats_none() {
    let host = Host::new();
    let refuses = Arc::new(AtomicBool::new(false));
    let script = format!("echo run >>{}/runs", host.state.path().display());
    let mut executions = agent(&host, &script, &refuses);
    executions.assign(AGENT, true, vec![task(1)]).expect("assigned");
    let first = next_run(&mut executions).await;
    wait_for(&mut executions, |event| event == ExecutionEvent::Settled(first)).await;
    let run = executions.task_run(first).expect("a run without a receipt");
    assert_eq!(run.command_id(AGENT), first);
    assert_eq!(lines(&host), 1);
    drop(executions);
    // As if the agent was killed before it stored that the due time is handled: the cursor of the second
    // before is still there.
    let cursor = host.state.task_cursor(Uuid::from_u128(1));
    fs::remove_file(&cursor).expect("removed");
    let mut executions = agent(&host, &script, &refuses);
    assert_eq!(executions.assigned_items(), [task(1)], "the list is kept");
    let second = next_run(&mut executions).await;
    wait_for(&mut executions, |event| event == ExecutionEvent::Settled(second)).await;
    let due: BTreeSet<_> =
        executions.task_runs().into_iter().map(|(_, run)| run.due_at_ms).collect();
    assert_eq!(due.len(), executions.task_runs().len());
    assert_eq!(lines(&host), executions.task_runs().len());
    // A list without it ends it.
    executions.assign(AGENT, true, vec![]).expect("removed");
    assert!(!cursor.exists());
    assert_eq!(executions.assignment_reports(), []);
}

#[tokio::test]
async fn a_due_time_is_skipped_until_the_run_before_has_ended() {
    let host = Host::new();
    let refuses = Arc::new(AtomicBool::new(false));
    let end = host.state.path().join("end");
    // A reader that waits until the test writes.
    let script = format!("mkfifo {0} && read line <{0}", end.display());
    let mut executions = agent(&host, &script, &refuses);
    executions.assign(AGENT, true, vec![task(1)]).expect("assigned");
    let first = next_run(&mut executions).await;
    host.note(first);
    let mut skipped = 0;
    while skipped == 0 {
        wait_for(&mut executions, |event| event == ExecutionEvent::AssignmentsChanged).await;
        skipped = executions.assignment_reports()[0].skipped_count;
    }
    assert_eq!(executions.task_runs().len(), 1);
    refuses.store(true, Ordering::SeqCst);
    crate::support::until("the script waits", || end.exists()).await;
    fs::write(&end, "done\n").expect("written");
    wait_for(&mut executions, |event| event == ExecutionEvent::Settled(first)).await;
}

#[tokio::test]
async fn a_run_is_refused_by_the_policy_of_the_moment() {
    let host = Host::new();
    let refuses = Arc::new(AtomicBool::new(true));
    let mut executions = agent(&host, "true", &refuses);
    executions.assign(AGENT, true, vec![task(1)]).expect("assigned");
    let report = executions.assignment_reports().pop().expect("a report");
    assert_eq!(report.state, AssignmentState::Failed);
    assert_eq!(report.error_code.as_deref(), Some("library_not_allowed"));
    let mut skipped = 0;
    while skipped == 0 {
        wait_for(&mut executions, |event| event == ExecutionEvent::AssignmentsChanged).await;
        skipped = executions.assignment_reports()[0].skipped_count;
    }
    assert_eq!(executions.task_runs(), []);
    refuses.store(false, Ordering::SeqCst);
    let run = next_run(&mut executions).await;
    wait_for(&mut executions, |event| event == ExecutionEvent::Settled(run)).await;
    executions.permit_tasks(false);
    let report = executions.assignment_reports().pop().expect("a report");
    assert_eq!(report.error_code.as_deref(), Some("permission_denied"));
}

#[tokio::test]
async fn another_identity_keeps_no_assignment() {
    let host = Host::new();
    let refuses = Arc::new(AtomicBool::new(false));
    let mut executions = agent(&host, "true", &refuses);
    executions.assign(AGENT, true, vec![task(1)]).expect("assigned");
    executions.reset().expect("reset");
    assert_eq!(executions.assigned_items(), []);
    assert!(!host.state.assignments().exists());
    assert!(!host.state.task_cursor(Uuid::from_u128(1)).exists());
    remove_assignments(&host.state).expect("nothing is left to remove");
}
