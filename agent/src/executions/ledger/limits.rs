//! Bounds on what a server can make the ledger hold.
//!
//! A result of a command that was accepted is never discarded before its receipt. Refusals and
//! cancellations of commands that were never accepted are discarded from the oldest on: no command
//! starts because of that, except one that the server sends again.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use muster_protocol::limits::SETTLED_RETENTION_MS;
use uuid::Uuid;

use super::{Entry, Ledger, files};
use crate::storage;
use crate::storage::layout::id_of_name;

/// Commands without a receipt that a host holds for each execution that it may run at once.
const COMMANDS_PER_EXECUTION: usize = 4;
/// Commands without a receipt that a host always holds.
const MIN_COMMANDS: usize = 64;
/// Most commands without a receipt that a host holds.
const MAX_COMMANDS: usize = 2_048;
/// Most responses of receipted commands that are kept.
const MAX_RECEIPTED: usize = 100_000;
/// Responses that remain when there are too many, so that they are rarely counted.
const RECEIPTED_AFTER_PURGE: usize = MAX_RECEIPTED - MAX_RECEIPTED / 10;

/// Most commands without a receipt that a host accepts, and again as many refusals and
/// cancellations. A server sends a host no more than `max_executions` commands at once.
pub fn command_limit(max_executions: u32) -> usize {
    (max_executions as usize * COMMANDS_PER_EXECUTION).clamp(MIN_COMMANDS, MAX_COMMANDS)
}

impl Ledger {
    /// Commands of the server without a receipt that may not be discarded. Runs of tasks have a bound of
    /// their own.
    pub fn held_count(&self) -> usize {
        let own = self.entries.values().filter(|entry| entry.task.is_some()).count();
        (self.entries.len() - self.discardable.len()).saturating_sub(own)
    }

    /// Discards the oldest refusals and cancellations of commands that were never accepted until at
    /// most `kept` are left.
    pub fn discard_oldest(&mut self, kept: usize) {
        while self.discardable.len() > kept {
            let Some(command_id) = self.discardable.pop_front() else { return };
            self.entries.remove(&command_id);
            files::remove_execution(&self.state.execution(command_id));
        }
    }

    /// Adds a command that was answered without being accepted; a known one stays as it is.
    pub(super) fn add_answered(&mut self, command_id: Uuid, entry: Entry) {
        if self.entries.contains_key(&command_id) {
            return;
        }
        if entry.is_discardable {
            self.discardable.push_back(command_id);
        }
        self.entries.insert(command_id, entry);
    }

    /// Removes a command from the table.
    pub(super) fn forget(&mut self, command_id: Uuid) {
        if self.entries.remove(&command_id).is_some_and(|entry| entry.is_discardable) {
            self.discardable.retain(|id| *id != command_id);
        }
    }

    /// True if [`Self::purge`] must delete responses because there are too many.
    pub fn needs_purge(&self) -> bool {
        self.receipted_count >= MAX_RECEIPTED
    }

    /// Deletes responses that no server can request any more, and the oldest ones if there are too
    /// many.
    pub fn purge(&mut self) {
        self.purge_to(MAX_RECEIPTED, RECEIPTED_AFTER_PURGE);
    }

    fn purge_to(&mut self, most: usize, left: usize) {
        let Ok(entries) = fs::read_dir(self.state.settled()) else { return };
        let mut responses: Vec<(SystemTime, PathBuf)> = Vec::new();
        for entry in entries.flatten() {
            // While the folder exists, the response prevents the command from being run again.
            let has_folder =
                entry.file_name().to_str().and_then(id_of_name).is_some_and(|id| {
                    storage::exists(self.state.execution(id).path()).unwrap_or(true)
                });
            let modified = entry.metadata().and_then(|data| data.modified());
            if let (false, Ok(modified)) = (has_folder, modified) {
                responses.push((modified, entry.path()));
            }
        }
        responses.sort();
        let retention = Duration::from_millis(SETTLED_RETENTION_MS);
        let old = SystemTime::now().checked_sub(retention).unwrap_or(SystemTime::UNIX_EPOCH);
        let excess = match responses.len() >= most {
            true => responses.len() - left,
            false => 0,
        };
        let mut left = responses.len();
        for (number, (modified, path)) in responses.iter().enumerate() {
            if (number < excess || *modified < old) && fs::remove_file(path).is_ok() {
                left -= 1;
            }
        }
        self.receipted_count = left + self.sweep_queue.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executions::ledger::record::CancelledBy;
    use crate::executions::ledger::{KnownState, cancelled};
    use crate::storage::layout::StateDir;

    /// Dates a file an hour ago; larger numbers are newer. The clock of a file system is coarse.
    fn date(path: &std::path::Path, number: usize) {
        let at = SystemTime::now() - Duration::from_secs(3600 - number as u64);
        let file = fs::File::options().write(true).open(path);
        file.and_then(|file| file.set_modified(at)).expect("dated");
    }

    #[test]
    fn the_oldest_cancellations_are_discarded_and_the_order_survives_a_restart() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let state = StateDir::create(folder.path()).expect("state directory");
        let (mut ledger, _) = Ledger::open(&state).expect("opened");
        let ids: Vec<_> = (1..=6u128).map(|number| Uuid::from_u128(7 - number)).collect();
        for (age, id) in ids.iter().enumerate() {
            ledger.settle(cancelled(*id, CancelledBy::Server));
            date(&state.execution(*id).settled(), age);
        }
        ledger.receipt(ids[2]);
        ledger.discard_oldest(4);
        let known = |ledger: &Ledger| -> Vec<_> {
            ids.iter().map(|id| ledger.known(*id) != KnownState::Never).collect()
        };
        assert_eq!(known(&ledger), [false, true, true, true, true, true]);
        assert_eq!(ledger.held_count(), 0);

        let (mut ledger, _) = Ledger::open(&state).expect("opened");
        ledger.discard_oldest(2);
        assert_eq!(known(&ledger), [false, false, true, false, true, true]);
        assert_eq!(fs::read_dir(state.executions()).expect("listed").count(), 2);
    }

    #[test]
    fn the_oldest_responses_of_receipted_commands_are_deleted_when_there_are_too_many() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let state = StateDir::create(folder.path()).expect("state directory");
        let (mut ledger, _) = Ledger::open(&state).expect("opened");
        let ids: Vec<_> = (1..=5).map(Uuid::from_u128).collect();
        for (age, id) in ids.iter().enumerate() {
            ledger.settle(cancelled(*id, CancelledBy::Server));
            ledger.receipt(*id);
            date(&state.settled_record(*id), age);
        }
        ledger.sweep();
        ledger.purge_to(5, 2);
        let kept: Vec<_> =
            ids.iter().map(|id| ledger.known(*id) == KnownState::Receipted).collect();
        assert_eq!(kept, [false, false, false, true, true]);
        assert_eq!(ledger.receipted_count, 2);
    }

    #[test]
    fn the_limit_follows_the_number_of_executions_within_bounds() {
        let limits = [1, 16, 17, 512, 1_024].map(command_limit);
        assert_eq!(limits, [64, 64, 68, 2_048, 2_048]);
    }
}
