//! From an accepted command to its last word, whether or not a server is in sight.
//!
//! Joins the ledger, which remembers, with the shims, which do. Knows neither links nor sessions;
//! what happens is told as [`Notice`]s.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use muster_protocol::frame::{InventoryItem, Outcome, Response};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use crate::exec::{self, WakeSocket, Watch};
use crate::layout::StateDir;
use crate::ledger::record::{StartedRecord, refusal};
use crate::ledger::recovery::{Recovery, Window};
use crate::ledger::{self, Entry, Known, Ledger, NewCommand, Phase};
use crate::outbox::reader;
use crate::platform::{self, FileLock, LockError};
use crate::storage::{self, StorageError};

/// Shims that end without a trace are started this often before it is given up.
const MAX_ATTEMPTS: u32 = 3;
/// Between two clean-ups of answers that nobody can ask for any more.
const PURGE_EVERY: Duration = Duration::from_secs(24 * 3600);
/// A lock is signed a moment after it is taken; how long that moment is waited out.
const SIGNATURE_PAUSE: Duration = Duration::from_millis(20);
/// After a look at a job that the system did not allow.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Something the server would want to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    Started(Uuid),
    /// There may be new output.
    Output(Uuid),
    Settled(Uuid),
}

/// All commands of this host.
#[derive(Debug)]
pub struct Custody {
    state: StateDir,
    ledger: Ledger,
    program: PathBuf,
    max_executions: usize,
    shims: BTreeMap<Uuid, ShimState>,
    tasks: JoinSet<Event>,
    wake: WakeSocket,
    owner: Arc<Notify>,
    notices: VecDeque<Notice>,
    purged_at: Instant,
}

#[derive(Debug, Default)]
struct ShimState {
    attempts: u32,
    is_started: bool,
}

/// What a task of the custody ends in.
#[derive(Debug, Clone, Copy)]
enum Event {
    ShimEnded(Uuid),
    /// It could not be told whether the shim lives.
    Unsure(Uuid),
    Cleared(Uuid),
}

/// Why the custody can't begin.
#[derive(Debug, thiserror::Error)]
pub enum CustodyError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("open the socket on which jobs report")]
    Wake(#[source] io::Error),
}

impl Custody {
    /// Opens the ledger and takes up whatever an agent before this one has left.
    ///
    /// # Errors
    /// [`CustodyError`] if the state directory can't be used.
    pub fn open(
        state: &StateDir,
        program: PathBuf,
        max_executions: u32,
    ) -> Result<Self, CustodyError> {
        // Bound before the first look: what happens in between rings the bell.
        let wake = WakeSocket::bind(state).map_err(CustodyError::Wake)?;
        let (mut ledger, recoveries) = Ledger::open(state)?;
        ledger.purge();
        let mut custody = Self {
            state: state.clone(),
            ledger,
            program,
            max_executions: max_executions as usize,
            shims: BTreeMap::new(),
            tasks: JoinSet::new(),
            wake,
            owner: Arc::default(),
            notices: VecDeque::new(),
            purged_at: Instant::now(),
        };
        for (command_id, recovery) in recoveries {
            tracing::info!(%command_id, ?recovery, "found in the ledger");
            custody.follow(command_id, recovery);
        }
        custody.start_waiting();
        Ok(custody)
    }

    /// Puts the ledger aside and begins a new one; what still runs of it is asked to end.
    ///
    /// # Errors
    /// As [`Custody::open`].
    pub fn begin_anew(&mut self) -> Result<(), CustodyError> {
        for command_id in self.shims.keys() {
            let _ = exec::ask_to_cancel(&self.state.job(*command_id), 0);
        }
        self.tasks.abort_all();
        Ledger::set_aside(&self.state)?;
        *self = Self::open(&self.state.clone(), self.program.clone(), self.max_executions as u32)?;
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

    /// Executions that a shim has in hand.
    pub fn running(&self) -> usize {
        self.shims.len()
    }

    /// True once the child of this command is known to have been started.
    pub fn is_started(&self, command_id: Uuid) -> bool {
        self.state.job(command_id).started().exists()
    }

    /// Every command without a receipt, oldest first.
    pub fn inventory(&self) -> Vec<InventoryItem> {
        let mut entries: Vec<_> = self.ledger.entries().collect();
        entries.sort_by_key(|(_, entry)| entry.order);
        let item = |(command_id, entry): (Uuid, &Entry)| InventoryItem {
            command_id,
            state: entry.phase.inventory_state(),
            offset_bytes: self.recorded_bytes(command_id, entry.phase),
        };
        entries.into_iter().map(item).collect()
    }

    /// Accepts commands durably and starts what there is room for. The answers are to be sent
    /// before anything else is told of these commands.
    pub fn accept(&mut self, commands: Vec<NewCommand>) -> Vec<(Uuid, Result<u64, StorageError>)> {
        let outcome = self.ledger.accept(commands);
        self.start_waiting();
        outcome
    }

    /// Writes down the last word on a command that runs nothing, or says why it can't.
    ///
    /// # Errors
    /// Whatever the disk says; nothing is settled then.
    pub fn settle_durably(&mut self, response: Response) -> Result<(), StorageError> {
        let command_id = response.command_id;
        self.ledger.settle_durably(response)?;
        self.notices.push_back(Notice::Settled(command_id));
        Ok(())
    }

    /// Writes down the last word on a command that runs nothing.
    pub fn settle(&mut self, response: Response) {
        let command_id = response.command_id;
        self.ledger.settle(response);
        self.notices.push_back(Notice::Settled(command_id));
    }

    /// Ends a command wherever it is; an id never seen is marked so that it never starts.
    pub fn cancel(&mut self, command_id: Uuid, grace_ms: u64) {
        match self.ledger.known(command_id) {
            Known::Never => self.settle(ledger::cancelled(command_id)),
            Known::Open(Phase::Waiting) => {
                if !self.settle_unstarted(ledger::cancelled(command_id)) {
                    self.ask_to_cancel(command_id, grace_ms);
                }
            }
            Known::Open(Phase::Running) => self.ask_to_cancel(command_id, grace_ms),
            Known::Open(Phase::Settled) | Known::Receipted => {}
        }
    }

    fn ask_to_cancel(&self, command_id: Uuid, grace_ms: u64) {
        if let Err(error) = exec::ask_to_cancel(&self.state.job(command_id), grace_ms) {
            let error = &error as &dyn std::error::Error;
            tracing::error!(%command_id, error, "cancel not written");
        }
    }

    /// Settles a command that has not started, under the lock that a shim would need: one that an
    /// agent before this one started late can't get between the look and the word. False if there
    /// is such a shim, which is then watched.
    fn settle_unstarted(&mut self, response: Response) -> bool {
        let command_id = response.command_id;
        let lock = FileLock::take(&self.state.job(command_id).lock());
        if matches!(lock, Err(LockError::Held)) {
            self.ledger.set_running(command_id);
            self.follow(command_id, Recovery::Reattach);
            return false;
        }
        // Where no lock can be made, on a full disk, no shim can get past it either.
        self.settle(response);
        true
    }

    /// What is done now and then, and cheap when there is nothing to do.
    pub fn keep_house(&mut self) {
        self.ledger.sweep();
        if self.purged_at.elapsed() >= PURGE_EVERY {
            self.purged_at = Instant::now();
            self.ledger.purge();
        }
    }

    /// Notified when the host's owner has rung the bell. That is heard while [`Custody::next`] is
    /// waited for, and kept until somebody looks.
    pub fn owner(&self) -> Arc<Notify> {
        Arc::clone(&self.owner)
    }

    /// The next thing to tell. May be dropped at any point.
    pub async fn next(&mut self) -> Notice {
        loop {
            if let Some(notice) = self.notices.pop_front() {
                return notice;
            }
            let due = self.next_due();
            tokio::select! {
                is_owner = self.wake.rung() => {
                    if is_owner {
                        self.owner.notify_one();
                    }
                    self.look_at_shims();
                }
                Some(event) = self.tasks.join_next() => self.take(event),
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.start_waiting();
                }
            }
        }
    }

    fn take(&mut self, event: Result<Event, tokio::task::JoinError>) {
        match event {
            Ok(Event::ShimEnded(id)) => {
                self.tell_started(id);
                self.judge(id);
            }
            Ok(Event::Unsure(id)) => self.judge(id),
            Ok(Event::Cleared(id)) => self.settle(self.lost(id)),
            Err(error) => tracing::error!(%error, "a watch has failed"),
        }
        self.start_waiting();
    }

    fn judge(&mut self, command_id: Uuid) {
        match self.ledger.judge(command_id) {
            Ok(recovery) => self.follow(command_id, recovery),
            Err(error) => {
                // Too many open files, say. What can't be seen is not judged.
                let error = &error as &dyn std::error::Error;
                tracing::error!(%command_id, error, "the job can't be looked at now");
                self.tasks.spawn(async move {
                    tokio::time::sleep(LOOK_AGAIN).await;
                    Event::Unsure(command_id)
                });
            }
        }
    }

    /// Does what the traces of a command ask for.
    fn follow(&mut self, command_id: Uuid, recovery: Recovery) {
        match recovery {
            Recovery::Reattach => {
                let shim = self.shims.entry(command_id).or_default();
                shim.is_started = self.state.job(command_id).started().exists();
                let job = self.state.job(command_id);
                self.tasks.spawn(async move { reattach(command_id, job).await });
                return;
            }
            Recovery::Start => {
                let attempts = self.shims.get(&command_id).map_or(0, |shim| shim.attempts);
                if attempts < MAX_ATTEMPTS {
                    self.ledger.set_waiting(command_id);
                    if attempts > 0 {
                        self.start(command_id);
                        return;
                    }
                } else if !self.settle_unstarted(not_startable(command_id)) {
                    return;
                }
            }
            Recovery::Report => {
                self.ledger.set_settled(command_id);
                self.notices.push_back(Notice::Settled(command_id));
            }
            Recovery::Cancel => {
                if !self.settle_unstarted(ledger::cancelled(command_id)) {
                    return;
                }
            }
            Recovery::Expire => {
                if !self.settle_unstarted(ledger::expired(command_id)) {
                    return;
                }
            }
            Recovery::Lose => {
                self.clear(command_id);
                return;
            }
            Recovery::Discard => {
                tracing::error!(%command_id, "the command's record has vanished");
                self.settle(self.lost(command_id));
            }
        }
        self.shims.remove(&command_id);
    }

    /// Ends what is left of a lost run before it is called lost.
    fn clear(&mut self, command_id: Uuid) {
        self.shims.entry(command_id).or_default();
        let started = self.state.job(command_id).started();
        self.tasks.spawn(async move {
            let started: Option<StartedRecord> = storage::read_sealed(&started).ok().flatten();
            let clear = move || exec::end_leftovers(command_id, started.as_ref());
            if !matches!(tokio::task::spawn_blocking(clear).await, Ok(true)) {
                tracing::error!(%command_id, "processes of a lost command could not be ended");
            }
            Event::Cleared(command_id)
        });
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
            if window == Window::Passed {
                self.settle_unstarted(ledger::expired(command_id));
            } else if self.shims.len() < self.max_executions {
                self.start(command_id);
            }
        }
    }

    fn start(&mut self, command_id: Uuid) {
        let job = self.state.job(command_id);
        self.shims.entry(command_id).or_default().attempts += 1;
        match exec::start_shim(&self.program, &job) {
            Ok(child) => {
                self.ledger.set_running(command_id);
                let watch = exec::watch_child(child);
                self.tasks.spawn(async move {
                    watch.ended().await;
                    Event::ShimEnded(command_id)
                });
            }
            Err(error) => {
                tracing::error!(%command_id, %error, "shim not started");
                self.shims.remove(&command_id);
                self.settle(not_startable(command_id));
            }
        }
    }

    fn look_at_shims(&mut self) {
        let running: Vec<_> = self.shims.keys().copied().collect();
        for command_id in running {
            self.tell_started(command_id);
            if self.shims.get(&command_id).is_some_and(|shim| shim.is_started) {
                self.notices.push_back(Notice::Output(command_id));
            }
        }
    }

    fn tell_started(&mut self, command_id: Uuid) {
        let Some(shim) = self.shims.get_mut(&command_id) else { return };
        if !shim.is_started && self.state.job(command_id).started().exists() {
            shim.is_started = true;
            self.notices.push_back(Notice::Started(command_id));
        }
    }

    /// When the first of the waiting commands runs out of time to start.
    fn next_due(&self) -> Option<Instant> {
        let waiting = self.ledger.entries().filter(|(_, entry)| entry.phase == Phase::Waiting);
        let by = waiting.filter_map(|(_, entry)| Some(entry.start_by.as_ref()?.at_ms)).min()?;
        // One more millisecond, so that the time has passed and not just come.
        let left = by.saturating_sub(platform::boot_now_ms()) + 1;
        Some(Instant::now() + Duration::from_millis(left))
    }

    fn recorded_bytes(&self, command_id: Uuid, phase: Phase) -> u64 {
        if phase == Phase::Settled {
            // The result says it, and its output may be gone already.
            let response = self.ledger.response(command_id);
            let bytes = response.and_then(|response| response.data.get("output_bytes")?.as_u64());
            return bytes.unwrap_or_default();
        }
        let stored = reader::recorded(&self.state.job(command_id).output());
        stored.map_or(0, |recorded| recorded.payload_bytes)
    }

    fn lost(&self, command_id: Uuid) -> Response {
        let recorded =
            reader::recorded_all(&self.state.job(command_id).output()).unwrap_or_default();
        let text = "the process that kept this run has vanished, so what came of it is not known; check the host before running it again";
        Response {
            data: crate::ledger::record::result_data(&recorded.result_without_end()),
            ..refusal(command_id, Outcome::Lost, "lost", text.to_owned())
        }
    }
}

async fn reattach(command_id: Uuid, job: crate::layout::JobDir) -> Event {
    match exec::watch_holder(&job) {
        Ok(Some(Watch::Over)) | Ok(None) | Err(_) => {
            tokio::time::sleep(SIGNATURE_PAUSE).await;
            Event::Unsure(command_id)
        }
        Ok(Some(watch)) => {
            watch.ended().await;
            Event::ShimEnded(command_id)
        }
    }
}

fn not_startable(command_id: Uuid) -> Response {
    let text = "the host could not start the process that keeps a run; see shim.log and the agent's log there";
    refusal(command_id, Outcome::Failed, "not_started", text.to_owned())
}
