//! The open executions of a host, read from their folders, whether or not an agent is running.

use std::fs;
use std::io;

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::InspectError;
use crate::executions::ledger::read_settlement;
use crate::executions::ledger::record::CommandRecord;
use crate::platform::FileLock;
use crate::storage;
use crate::storage::layout::{ExecutionDir, StateDir, id_of_name};

/// An execution without a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OpenExecution {
    pub command_id: Uuid,
    /// Its name in the manifest; absent for executions that an older agent has accepted.
    pub script: Option<String>,
    /// By this host's clock; absent before it starts.
    pub started_at: Option<DateTime<Utc>>,
    #[serde(skip)]
    pub dir: ExecutionDir,
}

impl OpenExecution {
    /// True if its shim is running and has started the run.
    ///
    /// # Errors
    /// If the lock can't be checked.
    pub fn is_running(&self) -> Result<bool, InspectError> {
        // A shim takes its lock before it writes the start mark and never after it, so this check
        // can't prevent a shim from starting.
        Ok(self.started_at.is_some() && self.has_shim()?)
    }

    /// True if a shim is running, whether or not it has started the run.
    ///
    /// # Errors
    /// If the lock can't be checked.
    pub fn has_shim(&self) -> Result<bool, InspectError> {
        let lock = self.dir.lock();
        FileLock::is_held(&lock).map_err(InspectError::of(&lock))
    }

    /// The name to show to people.
    pub fn title(&self) -> String {
        match &self.script {
            Some(script) => format!("{} ({script})", self.command_id),
            None => self.command_id.to_string(),
        }
    }
}

/// All executions that were accepted and have no result, oldest first.
///
/// # Errors
/// [`InspectError`] if the folder of executions can't be read.
pub fn open_executions(state: &StateDir) -> Result<Vec<OpenExecution>, InspectError> {
    let executions = state.executions();
    let entries = match fs::read_dir(&executions) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(InspectError::of(&executions)(error)),
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut found: Vec<_> =
        names.filter_map(|name| open_execution(state, id_of_name(&name)?)).collect();
    // Ids are ordered by their creation.
    found.sort_by_key(|execution| execution.command_id);
    Ok(found)
}

fn open_execution(state: &StateDir, command_id: Uuid) -> Option<OpenExecution> {
    let dir = state.execution(command_id);
    let record: CommandRecord = storage::read_whole(&dir.command()).ok()??;
    let has_ended = state.settled_record(command_id).exists()
        || read_settlement(&dir).is_ok_and(|settlement| settlement.is_some());
    if has_ended {
        return None;
    }
    let started = fs::metadata(dir.started()).and_then(|started| started.modified());
    Some(OpenExecution {
        command_id,
        script: record
            .launch
            .and_then(|launch| launch.script.or_else(|| launch.argv.into_iter().next())),
        started_at: started.ok().map(DateTime::from),
        dir,
    })
}
