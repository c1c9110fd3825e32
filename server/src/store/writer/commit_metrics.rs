//! TransactionCounts of a transaction, which are added to the metrics after its commit. A transaction that
//! fails and is repeated counts only once.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::commands::command_state::CommandState;
use crate::metrics::WriterMetrics;

/// The counts of the transaction in progress.
#[derive(Default)]
pub(super) struct CommitMetrics(Mutex<TransactionCounts>);

/// At most one entry for each state.
#[derive(Default)]
struct TransactionCounts {
    ended: HashMap<CommandState, u64>,
    output_bytes: u64,
}

impl CommitMetrics {
    /// TransactionCounts commands that reach this state, if it is terminal.
    pub(super) fn ended(&self, state: CommandState, commands: u64) {
        if state.is_terminal() {
            *self.counts().ended.entry(state).or_default() += commands;
        }
    }

    /// TransactionCounts stored output.
    pub(super) fn stored_output(&self, bytes: u64) {
        self.counts().output_bytes += bytes;
    }

    /// Drops the counts of a transaction that was not committed.
    pub(super) fn clear(&self) {
        *self.counts() = TransactionCounts::default();
    }

    /// Adds the counts after the commit.
    pub(super) fn add_to(&self, metrics: &WriterMetrics) {
        let counts = std::mem::take(&mut *self.counts());
        for (state, commands) in counts.ended {
            metrics.ended(state.as_str(), commands);
        }
        metrics.stored_output(counts.output_bytes);
    }

    fn counts(&self) -> MutexGuard<'_, TransactionCounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
