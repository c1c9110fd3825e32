//! The ledger: every command that this host has accepted, refused or cancelled.
//!
//! The ledger stores records and knows neither processes nor frames, except the responses that it
//! stores. The files are authoritative; the table in memory only lists the commands without a
//! receipt.

pub mod checkpoints;
mod entry;
mod files;
mod limits;
mod load;
#[cfg(test)]
mod model;
pub mod record;
pub mod recovery;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::time::Duration;

use muster_protocol::frame::{Outcome, Response};
use uuid::Uuid;

use crate::executions::{packages, secret_files};
use crate::fault::Fault;
use crate::platform::BootInstant;
use crate::storage::layout::StateDir;
use crate::storage::{self, StorageError};
pub use entry::{Entry, Head, KnownState, NewCommand, Phase};
pub use files::read_settlement;
pub use limits::command_limit;
use record::{CancelledBy, CommandRecord, Settlement, refusal};
use recovery::{RecoveryAction, StartWindow};

/// Number of receipted executions whose folders are removed together.
const SWEEP_AT: usize = 64;
/// Ledgers of former identities without results that are kept for inspection.
const SET_ASIDE_KEPT: usize = 3;
/// Ledgers of former identities with results that no server has acknowledged. If there are more, the
/// host takes no further identity from a server. So many that a server that issues identities for hours
/// does not keep a host out of the fleet.
const MAX_SET_ASIDE_WITH_RESULTS: usize = 1_000;
/// Space on the disk that these ledgers take from which the host takes no further identity.
const MAX_SET_ASIDE_BYTES: u64 = 1024 * 1024 * 1024;
/// How long results are kept that were set aside.
const SET_ASIDE_KEEP: Duration = Duration::from_secs(30 * 24 * 3600);

/// Ledgers of former identities that the owner of the host deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Discarded {
    pub identities: usize,
    /// The space that they took on the disk.
    pub bytes: u64,
}

/// The ledger of one state directory.
#[derive(Debug)]
pub struct Ledger {
    state: StateDir,
    head: Head,
    entries: BTreeMap<Uuid, Entry>,
    /// Receipted commands whose folders are not removed yet.
    sweep_queue: BTreeSet<Uuid>,
    /// Refusals and cancellations of commands that were never accepted, oldest first.
    discardable: VecDeque<Uuid>,
    /// Responses in the folder of receipted commands.
    receipted_count: usize,
}

impl Ledger {
    /// The ledger's identity and counters.
    pub fn head(&self) -> Head {
        self.head
    }

    /// Commands without a receipt.
    pub fn entries(&self) -> impl Iterator<Item = (Uuid, &Entry)> {
        self.entries.iter().map(|(id, entry)| (*id, entry))
    }

    /// One command without a receipt.
    pub fn entry(&self, command_id: Uuid) -> Option<&Entry> {
        self.entries.get(&command_id)
    }

    /// What is known about a command id, receipted commands included.
    pub fn known(&self, command_id: Uuid) -> KnownState {
        match self.entries.get(&command_id) {
            Some(entry) => KnownState::Open(entry.phase),
            // If the file can't be checked, an old command must not count as a new one.
            None if storage::exists(&self.state.settled_record(command_id)).unwrap_or(true) => {
                KnownState::Receipted
            }
            None => KnownState::Never,
        }
    }

    /// Accepts several commands with as few syncs as possible. Returns the count of each, or why it
    /// could not be written. A known id is never accepted again.
    pub fn accept(&mut self, commands: Vec<NewCommand>) -> Vec<(Uuid, Result<u64, StorageError>)> {
        let mut written = Vec::with_capacity(commands.len());
        let mut count = self.head.acceptance_count;
        for new in commands {
            if Fault::ForgottenCommands.is_on() {
                files::remove_execution(&self.state.execution(new.command_id));
            } else if self.known(new.command_id) != KnownState::Never {
                // The caller has checked this already; the second check protects the existing
                // folder.
                continue;
            }
            count += 1;
            let record = CommandRecord {
                command_id: new.command_id,
                command: new.command,
                acceptance_count: count,
                start_by: new.start_by,
                has_parameters: !new.parameters.is_empty(),
                launch: new.launch,
                task: new.task,
            };
            let execution = self.state.execution(new.command_id);
            written.push((
                files::write_command(&execution, &record, &new.parameters, &new.files),
                record,
            ));
        }
        let mut accepted = Vec::with_capacity(written.len());
        for (files, record) in written {
            let command_id = record.command_id;
            let execution = self.state.execution(command_id);
            let synced = files.and_then(|files| {
                files::sync_command(&execution, files)
                    .inspect_err(|_| files::remove_execution(&execution))
            });
            if synced.is_ok() {
                self.entries.insert(command_id, Entry::of(&record, Phase::Waiting));
            }
            accepted.push((command_id, synced.map(|()| record.acceptance_count)));
        }
        if let Err(error) = storage::sync_directory(&self.state.executions()) {
            // Without durable names no acceptance may be reported, so none is made.
            tracing::error!(error = &error as &dyn std::error::Error, "failed to sync acceptances");
            for (command_id, outcome) in accepted.iter_mut().filter(|(_, outcome)| outcome.is_ok())
            {
                files::remove_execution(&self.state.execution(*command_id));
                self.entries.remove(command_id);
                let source = std::io::Error::other("the folder of executions could not be synced");
                *outcome = Err(StorageError::io("sync", &self.state.executions())(source));
            }
        }
        // Only commands with a record count: a count that a restart can't restore would look to the
        // server like a ledger that lost commands.
        let counts = accepted.iter().filter_map(|(_, outcome)| outcome.as_ref().ok().copied());
        self.head.acceptance_count = counts.max().unwrap_or(self.head.acceptance_count);
        accepted
    }

    /// Records that a shim runs the command.
    pub fn set_running(&mut self, command_id: Uuid) {
        if let Some(entry) = self.entries.get_mut(&command_id) {
            entry.phase = Phase::Running;
        }
    }

    /// Records that the command waits for a shim again.
    pub fn set_waiting(&mut self, command_id: Uuid) {
        if let Some(entry) = self.entries.get_mut(&command_id) {
            entry.phase = Phase::Waiting;
        }
    }

    /// Records that the result is stored in the files.
    pub fn set_settled(&mut self, command_id: Uuid) {
        if let Some(entry) = self.entries.get_mut(&command_id) {
            entry.phase = Phase::Settled;
        }
        // Secrets are deleted as soon as they are not needed.
        let execution = self.state.execution(command_id);
        let _ = fs::remove_file(execution.parameters());
        secret_files::remove(&execution);
        packages::remove(&execution);
    }

    /// Writes the result of a command, known or not.
    ///
    /// # Errors
    /// The system's error; nothing is settled then.
    pub fn settle_durably(&mut self, response: Response) -> Result<(), StorageError> {
        let command_id = response.command_id;
        let answered = Entry::answered(&response);
        self.write_response(response)?;
        self.add_answered(command_id, answered);
        self.set_settled(command_id);
        Ok(())
    }

    /// Writes the result of a command and keeps it in memory if the disk fails. After a restart the
    /// files lead to the same result.
    pub fn settle(&mut self, response: Response) {
        let command_id = response.command_id;
        if let Err(error) = self.settle_durably(response.clone()) {
            tracing::error!(
                %command_id,
                error = &error as &dyn std::error::Error,
                "failed to write a result; it is kept in memory"
            );
            self.add_answered(command_id, Entry::answered(&response));
            if let Some(entry) = self.entries.get_mut(&command_id) {
                entry.unsaved = Some(Box::new(response));
            }
            self.set_settled(command_id);
        }
    }

    fn write_response(&self, response: Response) -> Result<(), StorageError> {
        let execution = self.state.execution(response.command_id);
        files::write_settlement(&execution, &Settlement::Answer { response })?;
        storage::sync_directory(&self.state.executions())
    }

    /// The stored response of a settled command, receipted or not.
    pub fn response(&self, command_id: Uuid) -> Option<Response> {
        Some(self.settlement(command_id)?.response(command_id))
    }

    /// The result of a settled command, receipted or not.
    pub fn settlement(&self, command_id: Uuid) -> Option<Settlement> {
        if let Some(response) = self.entries.get(&command_id).and_then(|e| e.unsaved.as_deref()) {
            return Some(Settlement::Answer { response: response.clone() });
        }
        let read = match files::read_settlement(&self.state.execution(command_id)) {
            Ok(None) => storage::read_whole(&self.state.settled_record(command_id)),
            read => read,
        };
        match read {
            Ok(settlement) => settlement,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(%command_id, error, "failed to read a result");
                None
            }
        }
    }

    /// The server has recorded the result: the output is deleted, the response is kept for a while.
    pub fn receipt(&mut self, command_id: Uuid) {
        match self.entries.get(&command_id) {
            Some(entry) if entry.phase == Phase::Settled => {}
            // A receipt for a result that was not reported is an error of the server and no reason
            // to forget a run.
            _ => return,
        }
        let execution = self.state.execution(command_id);
        if let Some(response) = self.entries.get(&command_id).and_then(|e| e.unsaved.clone()) {
            // The disk may accept now what it rejected before.
            let _ = self.write_response(*response);
        }
        if files::archive_settlement(&execution, &self.state.settled_record(command_id)) {
            self.forget(command_id);
            self.sweep_queue.insert(command_id);
            self.receipted_count += 1;
            if self.sweep_queue.len() >= SWEEP_AT {
                self.sweep();
            }
        }
    }

    /// Removes the folders of receipted commands. Cheap when there are none.
    pub fn sweep(&mut self) {
        if self.sweep_queue.is_empty() {
            return;
        }
        // The kept responses and the count must be durable before the folders are removed.
        let durable = storage::sync_directory(&self.state.settled()).and_then(|()| {
            storage::replace_synced(&self.state.ledger(), &storage::seal(&self.head))
        });
        if let Err(error) = durable {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "failed to sync receipts; trying again later"
            );
            return;
        }
        for command_id in std::mem::take(&mut self.sweep_queue) {
            files::remove_execution(&self.state.execution(command_id));
        }
    }

    /// Records the newest epoch durably. An older epoch indicates a restored server and changes
    /// nothing here.
    ///
    /// # Errors
    /// The system's error.
    pub fn record_epoch(&mut self, epoch: u64) -> Result<(), StorageError> {
        if epoch <= self.head.highest_epoch {
            return Ok(());
        }
        let head = Head { highest_epoch: epoch, ..self.head };
        storage::replace_synced(&self.state.ledger(), &storage::seal(&head))?;
        self.head = head;
        Ok(())
    }

    /// Sets the ledger of another identity aside: nothing in it is run or reported.
    ///
    /// # Errors
    /// The system's error.
    pub fn set_aside(state: &StateDir) -> Result<(), StorageError> {
        files::set_aside(state, SET_ASIDE_KEPT, SET_ASIDE_KEEP)
    }

    /// Checks whether this ledger may be set aside for a new identity from a server. Without a limit
    /// a server could fill the disk, and if the oldest were deleted, it could delete results.
    ///
    /// # Errors
    /// A sentence for the owner of the host, who may delete ledgers.
    pub fn check_set_aside(state: &StateDir) -> Result<(), StorageError> {
        Self::check_space_aside(state, MAX_SET_ASIDE_WITH_RESULTS, MAX_SET_ASIDE_BYTES)
    }

    fn check_space_aside(
        state: &StateDir,
        max_count: usize,
        max_bytes: u64,
    ) -> Result<(), StorageError> {
        if !files::has_results(&state.executions(), &state.settled()) {
            return Ok(());
        }
        let kept = files::set_aside_with_results(state.path(), SET_ASIDE_KEEP);
        let bytes: u64 = kept.iter().map(|path| files::size_of(path)).sum();
        if kept.len() < max_count && bytes < max_bytes {
            return Ok(());
        }
        let text = format!(
            "the server issued another identity to this host again, and the results of {} former ones are not \
             acknowledged by any server; check why the server does this, and delete these results with \
             `muster-agent discard-results`",
            kept.len()
        );
        Err(StorageError::io("set aside", &state.executions())(std::io::Error::other(text)))
    }

    /// Deletes all ledgers that were set aside, for the owner of the host. What no server acknowledged
    /// is lost.
    ///
    /// # Errors
    /// The system's error for the first ledger that can't be deleted.
    pub fn discard_set_aside(state: &StateDir) -> Result<Discarded, StorageError> {
        let mut discarded = Discarded { identities: 0, bytes: 0 };
        for (_, path) in files::set_aside_folders(state.path()) {
            let bytes = files::size_of(&path);
            std::fs::remove_dir_all(&path).map_err(StorageError::io("remove", &path))?;
            discarded.identities += 1;
            discarded.bytes += bytes;
        }
        Ok(discarded)
    }

    /// The action for one command in its current state. A shim frees its lock before its end can
    /// be observed. A lock that is held after one shim ended therefore belongs to another shim,
    /// which the previous agent may have started shortly before its own end.
    ///
    /// # Errors
    /// If the files can't be read now.
    pub fn decide(&self, command_id: Uuid) -> Result<RecoveryAction, StorageError> {
        let (on_disk, _) = files::read_on_disk_state(&self.state.execution(command_id))?;
        Ok(recovery::decide(on_disk))
    }
}

/// Whether a command may still be started, by the clock of this boot.
pub fn window(start_by: Option<&BootInstant>) -> StartWindow {
    match start_by {
        None => StartWindow::Open,
        // No trusted clock knows how long the host was off, so a start after a boot could be
        // arbitrarily late. The agent can only promise not to start it.
        Some(by) if by.boot_id != crate::platform::boot_id() => StartWindow::Passed,
        Some(by) if by.at_ms < crate::platform::boot_now_ms() => StartWindow::Passed,
        Some(_) => StartWindow::Open,
    }
}

/// The response to a command that was cancelled before it started.
pub fn cancelled(command_id: Uuid, by: CancelledBy) -> Response {
    let (code, text) = by.not_started();
    refusal(command_id, Outcome::Cancelled, code, text.to_owned())
}

/// The response to a command that did not start in time.
pub fn expired(command_id: Uuid) -> Response {
    let text = "the command did not start before its deadline; send it again".to_owned();
    refusal(command_id, Outcome::Expired, "expired", text)
}
