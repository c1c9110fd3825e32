//! The files of assignments.

use std::fs;

use muster_protocol::package::AssignedPackage;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::storage::layout::{StateDir, id_of_name};
use crate::storage::{self, StorageError};

/// The last list of the server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptList {
    /// The identity that it is for. Ids of runs follow from it.
    pub agent_id: Uuid,
    /// The agent's key permitted `execute` when the list came.
    pub is_permitted: bool,
    pub items: Vec<AssignedPackage>,
}

/// How far the due times of a task are handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CursorRecord {
    /// Milliseconds since the Unix epoch.
    pub last_due_ms: i64,
    /// Due times that did not become a run.
    pub skipped_count: u64,
}

pub fn load(state: &StateDir) -> Result<KeptList, StorageError> {
    Ok(storage::read_sealed(&state.assignments())?.unwrap_or_default())
}

pub fn save(state: &StateDir, list: &KeptList) -> Result<(), StorageError> {
    storage::replace_synced(&state.assignments(), &storage::seal(list))
}

/// Forgets all assignments: they are of another identity of this host.
///
/// # Errors
/// The system's error.
pub fn remove(state: &StateDir) -> Result<(), StorageError> {
    storage::remove(&state.assignments())?;
    remove_other_cursors(state, |_| false);
    Ok(())
}

pub fn cursor(state: &StateDir, assignment_id: Uuid) -> Option<CursorRecord> {
    storage::read_sealed(&state.task_cursor(assignment_id)).ok().flatten()
}

/// Stores a cursor. If the disk fails, the next process handles the due time again, which the ledger
/// knows.
pub fn save_cursor(state: &StateDir, assignment_id: Uuid, cursor: &CursorRecord) {
    let saved = storage::ensure_private_directory(&state.task_cursors()).and_then(|()| {
        storage::replace_synced(&state.task_cursor(assignment_id), &storage::seal(cursor))
    });
    if let Err(error) = saved {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(%assignment_id, error, "failed to store the last due time of a task");
    }
}

/// Removes the cursors of assignments that are not listed any more.
pub fn remove_other_cursors(state: &StateDir, is_wanted: impl Fn(&Uuid) -> bool) {
    let Ok(files) = fs::read_dir(state.task_cursors()) else { return };
    let names = files.flatten().filter_map(|file| file.file_name().into_string().ok());
    for id in names.filter_map(|name| id_of_name(&name)).filter(|id| !is_wanted(id)) {
        if let Err(error) = storage::remove(&state.task_cursor(id)) {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(assignment_id = %id, error, "failed to remove the state of a task");
        }
    }
}
