//! The jobs of a host as their folders show them, whether or not an agent runs.

use std::fs;
use std::io;

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::HostError;
use crate::layout::{JobDir, StateDir, id_of_name};
use crate::ledger::read_settlement;
use crate::ledger::record::CommandRecord;
use crate::platform::FileLock;
use crate::storage;

/// A job without a last word.
#[derive(Debug, Clone, Serialize)]
pub struct OpenJob {
    pub command_id: Uuid,
    /// Its name in the manifest; absent for jobs that an older agent has accepted.
    pub script: Option<String>,
    /// By this host's clock; absent before its start.
    pub started_at: Option<DateTime<Utc>>,
    #[serde(skip)]
    pub dir: JobDir,
}

impl OpenJob {
    /// True if its shim lives and has begun the run.
    ///
    /// # Errors
    /// If the lock can't be looked at.
    pub fn is_running(&self) -> Result<bool, HostError> {
        // A shim takes its lock before it marks the start and never after it: this look can't get
        // into the way of one that begins.
        Ok(self.started_at.is_some() && self.is_kept()?)
    }

    /// True if a shim lives, begun or not.
    ///
    /// # Errors
    /// If the lock can't be looked at.
    pub fn is_kept(&self) -> Result<bool, HostError> {
        let lock = self.dir.lock();
        FileLock::is_held(&lock).map_err(HostError::of(&lock))
    }

    /// What a person calls it.
    pub fn title(&self) -> String {
        match &self.script {
            Some(script) => format!("{} ({script})", self.command_id),
            None => self.command_id.to_string(),
        }
    }
}

/// All jobs that have been accepted and have no last word, oldest first.
///
/// # Errors
/// [`HostError`] if the folder of jobs can't be read.
pub fn open_jobs(state: &StateDir) -> Result<Vec<OpenJob>, HostError> {
    let jobs = state.jobs();
    let entries = match fs::read_dir(&jobs) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(HostError::of(&jobs)(error)),
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut found: Vec<_> = names.filter_map(|name| open_job(state, id_of_name(&name)?)).collect();
    // Ids are in the order of their making.
    found.sort_by_key(|job| job.command_id);
    Ok(found)
}

fn open_job(state: &StateDir, command_id: Uuid) -> Option<OpenJob> {
    let dir = state.job(command_id);
    let record: CommandRecord = storage::read_whole(&dir.command()).ok()??;
    let has_ended = state.settled_record(command_id).exists()
        || read_settlement(&dir).is_ok_and(|settlement| settlement.is_some());
    if has_ended {
        return None;
    }
    let started = fs::metadata(dir.started()).and_then(|started| started.modified());
    Some(OpenJob {
        command_id,
        script: record
            .launch
            .and_then(|launch| launch.script.or_else(|| launch.argv.into_iter().next())),
        started_at: started.ok().map(DateTime::from),
        dir,
    })
}
