//! The files of assignments.

use std::fs;
use std::path::Path;

use muster_protocol::package::AssignedItem;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::service_rule::ServiceRecord;
use crate::storage::layout::{StateDir, id_of_name};
use crate::storage::{self, StorageError};

/// The last list of the server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptList {
    /// The identity that it is for. Ids of runs follow from it.
    pub agent_id: Uuid,
    /// The agent's key permitted `execute` when the list came.
    pub is_permitted: bool,
    pub items: Vec<AssignedItem>,
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
    remove_others(state, |_| false);
    Ok(())
}

pub fn cursor(state: &StateDir, assignment_id: Uuid) -> Option<CursorRecord> {
    read(&state.task_cursor(assignment_id))
}

/// What is known about a service. Without it the ledger still knows whether it runs.
pub fn service(state: &StateDir, assignment_id: Uuid) -> ServiceRecord {
    read(&state.service(assignment_id)).unwrap_or_default()
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    storage::read_sealed(path).ok().flatten()
}

/// Stores a cursor. If the disk fails, the next process handles the due time again, which the ledger
/// knows.
pub fn save_cursor(state: &StateDir, assignment_id: Uuid, cursor: &CursorRecord) {
    save_state(&state.task_cursors(), &state.task_cursor(assignment_id), cursor);
}

/// Stores what is known about a service. If the disk fails, the next process knows less about its past.
pub fn save_service(state: &StateDir, assignment_id: Uuid, record: &ServiceRecord) {
    save_state(&state.services(), &state.service(assignment_id), record);
}

fn save_state(folder: &Path, path: &Path, record: &impl Serialize) {
    let saved = storage::ensure_private_directory(folder)
        .and_then(|()| storage::replace_synced(path, &storage::seal(record)));
    if let Err(error) = saved {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(path = %path.display(), error, "failed to store the state of an assignment");
    }
}

/// Removes the states of assignments that are not listed any more.
pub fn remove_others(state: &StateDir, is_wanted: impl Fn(&Uuid) -> bool) {
    for folder in [state.task_cursors(), state.services()] {
        let Ok(files) = fs::read_dir(&folder) else { continue };
        let names = files.flatten().filter_map(|file| file.file_name().into_string().ok());
        let is_other = |name: &String| id_of_name(name).is_some_and(|id| !is_wanted(&id));
        for name in names.filter(is_other) {
            if let Err(error) = storage::remove(&folder.join(&name)) {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(name, error, "failed to remove the state of an assignment");
            }
        }
    }
}
