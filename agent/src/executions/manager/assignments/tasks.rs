//! The due times of tasks, and the runs that follow from them.

use std::time::Duration;

use muster_protocol::CommandName;
use muster_protocol::package::{AssignedItem, TaskRun, TaskSchedule, open_document};
use muster_protocol::schedule::TaskTimes;
use tokio::time::Instant;
use uuid::Uuid;

use super::services::{STATUS_DELAY, Service};
use super::{CursorRecord, PlannedRun, RunRefusal, now_ms, store};
use crate::executions::ledger::{KnownState, NewCommand, Phase};
use crate::executions::manager::{ExecutionEvent, ExecutionManager};
use crate::executions::output_release;
use crate::platform::BootInstant;

/// Runs of tasks that a host holds until the server has their results.
const MAX_SPOOLED_RUNS: usize = 500;
/// Output of these runs that a host holds; with it no further run starts.
const MAX_SPOOLED_BYTES: u64 = 256 * 1024 * 1024;
/// Output of one run of a task that a host keeps.
pub const MAX_TASK_OUTPUT_BYTES: u64 = 4 * 1024 * 1024;
/// How long after its due time a run may wait for its start.
const START_WITHIN_MS: u64 = 600_000;
/// Longest time between two checks of due times: the clock of a host may be set.
const MAX_CHECK_INTERVAL: Duration = Duration::from_secs(30);

/// A task or a script that is assigned to this host.
#[derive(Debug)]
pub(super) struct Task {
    /// SHA-256 of its document.
    document_sha256: String,
    schedule: TaskSchedule,
    times: TaskTimes,
    pub cursor: CursorRecord,
}

impl Task {
    /// # Errors
    /// [`RunRefusal`] if it is no task that this agent understands.
    pub fn of(item: &AssignedItem, cursor: CursorRecord) -> Result<Self, RunRefusal> {
        let schedule = match &item.script {
            Some(script) => script.schedule.clone(),
            None => open_document(&item.document, &item.name, &item.package)
                .map_err(|error| RunRefusal::new(error.code(), error.to_string()))?
                .schedule
                .ok_or_else(RunRefusal::not_runnable)?,
        };
        let times = TaskTimes::of(&schedule).map_err(|_| RunRefusal::not_runnable())?;
        let document_sha256 = item.package.document_sha256.clone();
        Ok(Self { document_sha256, schedule, times, cursor })
    }

    pub fn is_of(&self, item: &AssignedItem) -> bool {
        self.document_sha256 == item.package.document_sha256
            && item.script.as_ref().is_none_or(|script| script.schedule == self.schedule)
    }
}

impl ExecutionManager {
    /// The runs of tasks without a receipt, oldest first, for the server.
    pub fn task_runs(&self) -> Vec<(Uuid, TaskRun)> {
        let mut runs: Vec<_> = self
            .ledger
            .entries()
            .filter_map(|(id, entry)| Some((entry.order, id, entry.task.as_deref()?.clone())))
            .collect();
        runs.sort_by_key(|(order, ..)| *order);
        runs.into_iter().map(|(_, id, run)| (id, run)).collect()
    }

    /// One of them.
    pub fn task_run(&self, command_id: Uuid) -> Option<TaskRun> {
        self.ledger.entry(command_id)?.task.as_deref().cloned()
    }

    /// Starts the runs that are due. Of several due times that have passed, only the last one runs.
    pub(in crate::executions::manager) fn run_due_tasks(&mut self) {
        let now = now_ms();
        for item in self.assignments.list.items.clone() {
            let id = item.assignment_id;
            let Some(task) = self.assignments.tasks.get(&id) else { continue };
            // A clock that was ahead must not stop the task. The ledger knows what has run already.
            let after = task.cursor.last_due_ms.min(now);
            let Some(due_ms) = task.times.last_due(after, now) else { continue };
            let started = self.start_run(&item, due_ms);
            if started.as_ref().is_err_and(RunRefusal::is_not_downloaded) {
                self.download_again(&item);
            }
            let Some(task) = self.assignments.tasks.get_mut(&id) else { continue };
            task.cursor.last_due_ms = due_ms;
            if let Err(refusal) = &started {
                tracing::warn!(assignment_id = %id, code = refusal.code, "skipped a due time: {}", refusal.message);
                task.cursor.skipped_count = task.cursor.skipped_count.saturating_add(1);
            }
            store::save_cursor(&self.state, id, &task.cursor);
        }
        self.check_assignments();
        self.follow_services();
        self.plan_next_check();
        self.announce_assignments();
        self.start_waiting();
    }

    pub(super) fn plan_next_check(&mut self) {
        let now = now_ms();
        let next = |task: &Task| task.times.next_after(task.cursor.last_due_ms.min(now));
        let next = self.assignments.tasks.values().filter_map(next);
        let due =
            next.map(|due_ms| Duration::from_millis(u64::try_from(due_ms - now).unwrap_or(0)));
        let starts = self.assignments.services.values().filter_map(Service::restart_left);
        // The policy of the host may change while a service runs.
        let has_services = !self.assignments.services.is_empty();
        let checks = has_services.then_some(MAX_CHECK_INTERVAL);
        let next = due.chain(starts).chain(checks).min();
        self.assignments.next_check_at =
            next.map(|left| Instant::now() + left.min(MAX_CHECK_INTERVAL));
    }

    /// A shim may have written another status of its service.
    pub(in crate::executions::manager) fn plan_status_check(&mut self) {
        if self.assignments.services.values().any(Service::has_status) {
            let soon = Instant::now() + STATUS_DELAY;
            let planned = self.assignments.next_check_at;
            self.assignments.next_check_at = Some(planned.map_or(soon, |at| at.min(soon)));
        }
    }

    /// Accepts a run durably. A due time that the ledger knows is none again.
    fn start_run(&mut self, item: &AssignedItem, due_ms: i64) -> Result<(), RunRefusal> {
        let list = &self.assignments.list;
        if !list.is_permitted {
            return Err(RunRefusal::not_permitted());
        }
        let Ok(due_at_ms) = u64::try_from(due_ms) else { return Ok(()) };
        let agent_id = list.agent_id;
        let mut run = TaskRun {
            assignment_id: item.assignment_id,
            due_at_ms,
            package: item.package.clone(),
            timeout_ms: 0,
            is_service: false,
        };
        let command_id = run.command_id(agent_id);
        if self.ledger.known(command_id) != KnownState::Never {
            return Ok(());
        }
        self.check_run_before(item.assignment_id)?;
        let spool = self.spool(false);
        if spool.is_full || spool.is_over_bytes {
            return Err(RunRefusal::spool_full());
        }
        let Some(planner) = &mut self.assignments.planner else { return Ok(()) };
        let planned = planner.plan(item)?;
        run.timeout_ms = planned.launch.timeout_ms;
        self.accept_run(run, planned, Some(BootInstant::after_ms(START_WITHIN_MS)))
    }

    /// Writes a run to the ledger and announces it.
    pub(super) fn accept_run(
        &mut self,
        run: TaskRun,
        planned: PlannedRun,
        start_by: Option<BootInstant>,
    ) -> Result<(), RunRefusal> {
        if let Some(planner) = &mut self.assignments.planner {
            planner.note_start(&planned.minimums)?;
        }
        let assignment_id = run.assignment_id;
        let command_id = run.command_id(self.assignments.list.agent_id);
        let new = NewCommand {
            command_id,
            command: CommandName::Execute,
            start_by,
            launch: Some(planned.launch),
            parameters: planned.parameters,
            files: planned.files,
            minimums: planned.minimums,
            request_id: None,
            task: Some(Box::new(run)),
        };
        for (command_id, accepted) in self.ledger.accept(vec![new]) {
            if let Err(error) = accepted {
                return Err(RunRefusal::new("storage_failed", error.to_string()));
            }
            tracing::info!(%command_id, %assignment_id, "a task is due, or a service starts");
            self.events.push_back(ExecutionEvent::TaskRun(command_id));
        }
        Ok(())
    }

    fn check_run_before(&self, assignment_id: Uuid) -> Result<(), RunRefusal> {
        let is_running = self.ledger.entries().any(|(_, entry)| {
            let run = entry.task.as_ref();
            entry.phase != Phase::Settled && run.is_some_and(|r| r.assignment_id == assignment_id)
        });
        match is_running {
            true => Err(RunRefusal::new("still_running", "the run before has not ended")),
            false => Ok(()),
        }
    }

    /// What runs hold whose results the server has not taken: those of services, or those of tasks. Each kind has a
    /// reserve of its own, so that a noisy task stops no service.
    pub(super) fn spool(&self, of_services: bool) -> Spool {
        let is_of_kind = |run: &TaskRun| run.is_service == of_services;
        let held = || {
            self.ledger
                .entries()
                .filter(|(_, entry)| entry.task.as_ref().is_some_and(|run| is_of_kind(run)))
        };
        let bytes =
            held().map(|(id, _)| output_release::held_bytes(&self.state.execution(id).output()));
        Spool {
            is_full: held().count() >= MAX_SPOOLED_RUNS,
            is_over_bytes: bytes.sum::<u64>() >= MAX_SPOOLED_BYTES,
        }
    }
}

/// How much of a reserve is used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spool {
    /// It has as many runs as it may have.
    pub is_full: bool,
    /// It has as much output as it may have.
    pub is_over_bytes: bool,
}
