//! Deletes what former identities of this host left behind: results that no server acknowledged. Those of
//! the present identity stay. Works with or without a running agent.

use crate::executions::ledger::{Discarded, Ledger};
use crate::storage::StorageError;
use crate::storage::layout::StateDir;

/// Why nothing more could be deleted. The messages are shown to the person who asked.
#[derive(Debug, thiserror::Error)]
pub enum DiscardResultsError {
    #[error("the agent's files belong to the user {owner}; run this as that user")]
    OtherOwner { owner: String },
    #[error("failed to delete the results of a former identity")]
    Delete(#[source] StorageError),
}

/// Deletes the ledgers that were set aside.
///
/// # Errors
/// [`DiscardResultsError`]. Ledgers that were deleted before stay deleted.
pub fn discard_results(state: &StateDir) -> Result<Discarded, DiscardResultsError> {
    match super::other_owner(state.path()) {
        Some(owner) => Err(DiscardResultsError::OtherOwner { owner }),
        None => Ledger::discard_set_aside(state).map_err(DiscardResultsError::Delete),
    }
}
