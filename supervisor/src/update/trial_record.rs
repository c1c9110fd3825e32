//! `trial.json` in the program folder: the version on trial, kept across restarts.

use std::path::{Path, PathBuf};

use muster_protocol::release::{UpdateOutcome, UpdateRequest, UpdateResult, Version};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::durable_file::{self, FileError};

/// How often a host may start during a trial.
pub const MAX_BOOTS: u32 = 3;

/// A version on trial. Supervisors of the previous and next version read this file: fields are only
/// added, and only as optional ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialRecord {
    /// The command that requested the update.
    #[serde(default)]
    pub command_id: Option<Uuid>,
    /// The version to roll back to.
    pub from: Version,
    /// The version on trial.
    pub to: Version,
    pub phase: Phase,
    /// Supervisors that have started in this phase.
    #[serde(default)]
    pub boots: u32,
    /// Why it was rolled back, as a stable code.
    #[serde(default)]
    pub code: Option<String>,
    /// Why it was rolled back, as a sentence.
    #[serde(default)]
    pub message: Option<String>,
    /// The outcome, once it is certain. What remains is to apply it and to write the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<UpdateOutcome>,
}

/// The phase of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The new version runs; the previous version is current.
    OnTrial,
    /// The new version failed. The previous version runs and shows whether it can register.
    RolledBack,
}

impl TrialRecord {
    /// Reads the trial; `None` if there is none or the file is malformed.
    pub(super) fn read(program: &Path) -> Result<Option<Self>, FileError> {
        let bytes = durable_file::read_if_exists(&path(program))?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// The version that must run in this phase.
    pub fn running(&self) -> &Version {
        match self.phase {
            Phase::OnTrial => &self.to,
            Phase::RolledBack => &self.from,
        }
    }

    /// True while the new version can still succeed.
    pub fn is_undecided(&self) -> bool {
        self.phase == Phase::OnTrial && self.outcome.is_none()
    }

    /// True if the host has started too often during the trial.
    pub fn has_exceeded_boots(&self) -> bool {
        self.phase == Phase::OnTrial && self.boots >= MAX_BOOTS
    }

    /// True if this request led to the trial.
    pub(super) fn is_of(&self, request: &UpdateRequest) -> bool {
        self.command_id == request.command_id && self.to == request.version
    }

    pub(super) fn exists(program: &Path) -> bool {
        path(program).exists()
    }

    pub(super) fn write(&self, program: &Path) -> Result<(), FileError> {
        durable_file::write(&path(program), self)
    }

    pub(super) fn remove(program: &Path) -> Result<(), FileError> {
        durable_file::remove(&path(program))
    }

    pub(super) fn result(&self, outcome: UpdateOutcome) -> UpdateResult {
        let (from, to) = (&self.from, &self.to);
        let message = self.message.clone();
        UpdateResult {
            command_id: self.command_id,
            outcome,
            from_version: from.to_string(),
            to_version: to.to_string(),
            code: self.code.clone(),
            message: message.unwrap_or_else(|| {
                format!("version {to} runs and has registered; the previous version was {from}")
            }),
        }
    }
}

fn path(program: &Path) -> PathBuf {
    program.join("trial.json")
}
