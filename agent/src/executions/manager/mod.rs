//! Runs accepted commands to their result, with or without a connection to the server.
//!
//! The manager connects the ledger with the shims. It knows neither links nor sessions, and reports
//! what happens as [`ExecutionEvent`]s.

mod assignments;
mod inventory;
mod preparation;
mod recovery;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use muster_protocol::commands::step::StepProgress;
use muster_protocol::frame::Response;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use self::assignments::Assignments;
pub use self::assignments::{
    MAX_TASK_OUTPUT_BYTES, PlannedRun, RunPlanner, RunRefusal, remove_assignments,
};
use self::preparation::Preparations;
use crate::executions::environments;
use crate::executions::launcher;
use crate::executions::ledger::record::CancelledBy;
use crate::executions::ledger::recovery::StartWindow;
use crate::executions::ledger::{self, KnownState, Ledger, NewCommand, Phase};
use crate::executions::notifier::NotificationSocket;
use crate::executions::packages::PackageError;
use crate::executions::shim_watch;
use crate::platform::{self};
use crate::storage::layout::StateDir;
use crate::storage::{self, StorageError};

/// Interval at which responses that no server can request any more are deleted.
const PURGE_EVERY: Duration = Duration::from_secs(24 * 3600);

/// An event that the server may need to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecutionEvent {
    Started(Uuid),
    /// There may be new output.
    Output(Uuid),
    Settled(Uuid),
    /// Another step has started.
    Steps(Uuid),
    /// A run of a task was accepted.
    TaskRun(Uuid),
    /// The states of assignments are not those that were announced before.
    AssignmentsChanged,
}

/// All commands of this host.
#[derive(Debug)]
pub struct ExecutionManager {
    state: StateDir,
    ledger: Ledger,
    program: PathBuf,
    max_executions: usize,
    /// Most commands that wait for their end or their receipt.
    command_limit: usize,
    shims: BTreeMap<Uuid, ShimState>,
    preparations: Preparations,
    assignments: Assignments,
    tasks: JoinSet<TaskEvent>,
    notifications: NotificationSocket,
    owner_requests: Arc<Notify>,
    events: VecDeque<ExecutionEvent>,
    purged_at: Instant,
}

#[derive(Debug, Default)]
struct ShimState {
    attempts: u32,
    is_started: bool,
    /// Which file of progress was announced: its number, time and length.
    announced_steps: Option<(u64, i64, u64)>,
}

/// The result of a background task.
#[derive(Debug)]
enum TaskEvent {
    ShimEnded(Uuid),
    /// The state of the shim could not be determined.
    Unknown(Uuid),
    /// With the response that reports it as lost.
    LeftoversKilled(Box<Response>),
    /// The package of an execution is unpacked, or why it is not.
    PackagePrepared(Uuid, Result<(), PackageError>),
    /// The archive of an assignment is kept, or why it is not.
    ArchiveKept(Uuid, String, Result<(), PackageError>),
}

/// Why the manager can't start.
#[derive(Debug, thiserror::Error)]
pub enum ExecutionManagerError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("failed to open the notification socket")]
    Socket(#[source] io::Error),
}

impl ExecutionManager {
    /// Opens the ledger and takes over everything that the previous agent process left.
    ///
    /// # Errors
    /// [`ExecutionManagerError`] if the state directory can't be used.
    pub fn open(
        state: &StateDir,
        program: PathBuf,
        max_executions: u32,
    ) -> Result<Self, ExecutionManagerError> {
        // Bound before the ledger is read, so that no notification in between is lost.
        let notifications =
            NotificationSocket::bind(state).map_err(ExecutionManagerError::Socket)?;
        let (mut ledger, recoveries) = Ledger::open(state)?;
        ledger.purge();
        ledger.discard_oldest(ledger::command_limit(max_executions));
        let mut executions = Self {
            state: state.clone(),
            ledger,
            program,
            max_executions: max_executions as usize,
            command_limit: ledger::command_limit(max_executions),
            shims: BTreeMap::new(),
            preparations: Preparations::default(),
            assignments: Assignments::default(),
            tasks: JoinSet::new(),
            notifications,
            owner_requests: Arc::default(),
            events: VecDeque::new(),
            purged_at: Instant::now(),
        };
        for (command_id, recovery) in recoveries {
            if executions.ledger.entry(command_id).is_none() {
                continue;
            }
            tracing::info!(%command_id, ?recovery, "found an open command in the ledger");
            executions.apply_recovery(command_id, recovery);
        }
        executions.start_waiting();
        Ok(executions)
    }

    /// Sets the ledger aside and creates a new one. Requests that everything still running ends.
    ///
    /// # Errors
    /// As [`ExecutionManager::open`], and if too many ledgers with results were set aside; nothing
    /// is changed then.
    pub fn reset(&mut self) -> Result<(), ExecutionManagerError> {
        Ledger::check_set_aside(&self.state)?;
        for command_id in self.shims.keys() {
            let _ =
                launcher::ask_to_cancel(&self.state.execution(*command_id), 0, CancelledBy::Server);
        }
        self.tasks.abort_all();
        let packages = self.preparations.end_all();
        let planner = self.assignments.end_all();
        // First, so that a kill in between never leaves them to the next identity.
        remove_assignments(&self.state)?;
        Ledger::set_aside(&self.state)?;
        *self = Self::open(&self.state.clone(), self.program.clone(), self.max_executions as u32)?;
        if let Some(packages) = packages {
            self.use_packages(packages);
        }
        if let Some(planner) = planner {
            self.use_assignments(planner)?;
        }
        Ok(())
    }

    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub fn ledger_mut(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    pub fn state(&self) -> &StateDir {
        &self.state
    }

    /// True if the host holds as many commands as it may, with `arriving` more that are about to be
    /// accepted.
    pub fn is_full(&self, arriving: usize) -> bool {
        self.ledger.held_count() + arriving >= self.command_limit
    }

    /// Number of executions that have a shim.
    pub fn running_count(&self) -> usize {
        self.shims.len()
    }

    /// True once the child of this command was started.
    pub fn is_started(&self, command_id: Uuid) -> bool {
        self.state.execution(command_id).started().exists()
    }

    /// Accepts commands durably and starts as many as the limit permits. The caller must send the
    /// acceptances before anything else about these commands.
    pub fn accept(&mut self, commands: Vec<NewCommand>) -> Vec<(Uuid, Result<u64, StorageError>)> {
        let outcome = self.ledger.accept(commands);
        self.start_waiting();
        outcome
    }

    /// Writes the result of a command that runs nothing.
    ///
    /// # Errors
    /// The system's error; nothing is settled then.
    pub fn settle_durably(&mut self, response: Response) -> Result<(), StorageError> {
        let command_id = response.command_id;
        self.ledger.settle_durably(response)?;
        self.ledger.discard_oldest(self.command_limit);
        self.events.push_back(ExecutionEvent::Settled(command_id));
        Ok(())
    }

    /// Writes the result of a command that runs nothing, and keeps it in memory if the disk fails.
    pub fn settle(&mut self, response: Response) {
        let command_id = response.command_id;
        self.ledger.settle(response);
        self.ledger.discard_oldest(self.command_limit);
        self.events.push_back(ExecutionEvent::Settled(command_id));
    }

    /// Cancels a command in any phase. An unknown id is marked so that it never starts.
    pub fn cancel(&mut self, command_id: Uuid, grace_ms: u64) {
        match self.ledger.known(command_id) {
            KnownState::Never => self.settle(ledger::cancelled(command_id, CancelledBy::Server)),
            KnownState::Open(Phase::Waiting) => {
                self.preparations.end(command_id);
                if !self.settle_unstarted(ledger::cancelled(command_id, CancelledBy::Server)) {
                    self.ask_to_cancel(command_id, grace_ms);
                }
            }
            KnownState::Open(Phase::Running) => self.ask_to_cancel(command_id, grace_ms),
            KnownState::Open(Phase::Settled) | KnownState::Receipted => {}
        }
    }

    fn ask_to_cancel(&self, command_id: Uuid, grace_ms: u64) {
        if let Err(error) = launcher::ask_to_cancel(
            &self.state.execution(command_id),
            grace_ms,
            CancelledBy::Server,
        ) {
            let error = &error as &dyn std::error::Error;
            tracing::error!(%command_id, error, "failed to write a cancellation");
        }
    }

    /// Periodic maintenance. Cheap when there is nothing to do.
    pub fn run_maintenance(&mut self) {
        self.ledger.sweep();
        self.check_assignments();
        self.follow_services();
        if self.purged_at.elapsed() >= PURGE_EVERY || self.ledger.needs_purge() {
            self.purged_at = Instant::now();
            self.ledger.purge();
            environments::collect(&self.state);
        }
    }

    /// Notified when the host's owner has made a request. Requests are received while
    /// [`ExecutionManager::next`] is polled, and kept until they are read.
    pub fn owner_requests(&self) -> Arc<Notify> {
        Arc::clone(&self.owner_requests)
    }

    /// The next event. May be dropped at any await point.
    pub async fn next(&mut self) -> ExecutionEvent {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            let due = self.next_start_deadline();
            let task_due = self.assignments.next_check_at();
            tokio::select! {
                is_owner = self.notifications.notified() => {
                    if is_owner {
                        self.owner_requests.notify_one();
                    }
                    self.check_shims();
                }
                Some(event) = self.tasks.join_next() => self.handle_event(event),
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.start_waiting();
                }
                () = tokio::time::sleep_until(task_due.unwrap_or_else(Instant::now)), if task_due.is_some() => {
                    self.run_due_tasks();
                }
            }
        }
    }

    fn handle_event(&mut self, event: Result<TaskEvent, tokio::task::JoinError>) {
        match event {
            Ok(TaskEvent::ShimEnded(id)) => {
                self.report_started(id);
                self.recover(id);
            }
            Ok(TaskEvent::Unknown(id)) => self.recover(id),
            Ok(TaskEvent::LeftoversKilled(response)) => self.settle(*response),
            Ok(TaskEvent::PackagePrepared(id, result)) => self.handle_prepared(id, result),
            Ok(TaskEvent::ArchiveKept(id, sha256, kept)) => self.handle_kept(id, &sha256, kept),
            // A download that is not needed any more.
            Err(error) if error.is_cancelled() => {}
            Err(error) => tracing::error!(%error, "a background task failed"),
        }
        self.start_waiting();
        self.follow_services();
    }

    fn start_waiting(&mut self) {
        let mut waiting: Vec<_> = self
            .ledger
            .entries()
            .filter(|(id, entry)| entry.phase == Phase::Waiting && !self.shims.contains_key(id))
            .map(|(id, entry)| (entry.order, id, ledger::window(entry.start_by.as_ref())))
            .collect();
        waiting.sort_by_key(|(order, ..)| *order);
        for (_, command_id, window) in waiting {
            if window == StartWindow::Passed {
                self.preparations.end(command_id);
                self.settle_unstarted(ledger::expired(command_id));
            } else if (self.is_service(command_id) || self.limited_count() < self.max_executions)
                && !self.preparations.has(command_id)
            {
                self.start(command_id);
            }
        }
    }

    fn is_service(&self, command_id: Uuid) -> bool {
        self.ledger.entry(command_id).is_some_and(ledger::Entry::is_service)
    }

    /// Executions that count towards the limit. Services run all the time, and would leave no place.
    fn limited_count(&self) -> usize {
        let started = self.shims.keys().copied().chain(self.preparations.running_ids());
        started.filter(|id| !self.is_service(*id)).count()
    }

    fn start(&mut self, command_id: Uuid) {
        let needs_package = self.ledger.entry(command_id).is_some_and(|entry| entry.needs_package);
        if needs_package && !self.preparations.take_prepared(command_id) {
            self.prepare(command_id);
            return;
        }
        let execution = self.state.execution(command_id);
        self.shims.entry(command_id).or_default().attempts += 1;
        match launcher::start_shim(&self.program, &execution) {
            Ok(child) => {
                self.ledger.set_running(command_id);
                let watch = shim_watch::watch_child(child);
                self.tasks.spawn(async move {
                    watch.ended().await;
                    TaskEvent::ShimEnded(command_id)
                });
            }
            Err(error) => {
                tracing::error!(%command_id, %error, "failed to start a shim");
                self.shims.remove(&command_id);
                self.settle(recovery::shim_not_started(command_id));
            }
        }
    }

    fn check_shims(&mut self) {
        self.plan_status_check();
        let running: Vec<_> = self.shims.keys().copied().collect();
        for command_id in running {
            self.report_started(command_id);
            if self.shims.get(&command_id).is_some_and(|shim| shim.is_started) {
                self.events.push_back(ExecutionEvent::Output(command_id));
                self.announce_steps(command_id);
            }
        }
    }

    fn report_started(&mut self, command_id: Uuid) {
        let Some(shim) = self.shims.get_mut(&command_id) else { return };
        if !shim.is_started && self.state.execution(command_id).started().exists() {
            shim.is_started = true;
            self.events.push_back(ExecutionEvent::Started(command_id));
        }
    }

    fn announce_steps(&mut self, command_id: Uuid) {
        if !self.ledger.entry(command_id).is_some_and(|entry| entry.has_steps) {
            return;
        }
        let Ok(file) = self.state.execution(command_id).steps().metadata() else { return };
        let file = Some((file.ino(), file.mtime_nsec(), file.len()));
        let Some(shim) = self.shims.get_mut(&command_id) else { return };
        // Notifications come with output too.
        if shim.announced_steps != file {
            shim.announced_steps = file;
            self.events.push_back(ExecutionEvent::Steps(command_id));
        }
    }

    /// How far a running execution with steps is; `None` for any other.
    pub fn step_progress(&self, command_id: Uuid) -> Option<StepProgress> {
        let entry = self.ledger.entry(command_id)?;
        let is_asked = entry.has_steps && entry.phase == Phase::Running;
        let path = is_asked.then(|| self.state.execution(command_id).steps())?;
        // Notes of a shim that can't be read are left out, as by `lost`.
        storage::read_sealed(&path).ok().flatten()
    }

    /// The first deadline of the waiting commands.
    fn next_start_deadline(&self) -> Option<Instant> {
        let waiting = self.ledger.entries().filter(|(_, entry)| entry.phase == Phase::Waiting);
        let by = waiting.filter_map(|(_, entry)| Some(entry.start_by.as_ref()?.at_ms)).min()?;
        // One more millisecond, so that the deadline has passed and not just arrived.
        let left = by.saturating_sub(platform::boot_now_ms()) + 1;
        Some(Instant::now() + Duration::from_millis(left))
    }
}
