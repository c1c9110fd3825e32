//! What a transaction is to have counted once it stands: one that fails, and is tried again in
//! pieces, counts nothing.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::commands::command_state::CommandState;
use crate::metrics::WriterMetrics;

/// The counts of the transaction under way.
#[derive(Default)]
pub(super) struct CommitMetrics(Mutex<Counts>);

/// At most one entry for each state.
#[derive(Default)]
struct Counts {
    ended: HashMap<CommandState, u64>,
    output_bytes: u64,
}

impl CommitMetrics {
    /// So many commands end in this state, if it is a terminal one.
    pub(super) fn ended(&self, state: CommandState, commands: u64) {
        if state.is_terminal() {
            *self.counts().ended.entry(state).or_default() += commands;
        }
    }

    /// So much output is being stored.
    pub(super) fn stored_output(&self, bytes: u64) {
        self.counts().output_bytes += bytes;
    }

    /// Forgets what an earlier transaction left, which did not come to its commit.
    pub(super) fn clear(&self) {
        *self.counts() = Counts::default();
    }

    /// The transaction stands.
    pub(super) fn add_to(&self, meters: &WriterMetrics) {
        let counts = std::mem::take(&mut *self.counts());
        for (state, commands) in counts.ended {
            meters.ended(state.as_str(), commands);
        }
        meters.stored_output(counts.output_bytes);
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
