//! `trial.json` in the program folder: which version is being tried, across restarts.

use std::path::{Path, PathBuf};

use muster_protocol::release::{UpdateOutcome, UpdateVerdict, Version};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::durable::{self, FileError};

/// A version on trial. Supervisors of the version before and after read it: fields are only added,
/// and only as optional ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// The command that asked for it.
    #[serde(default)]
    pub command_id: Option<Uuid>,
    /// The version to go back to.
    pub from: Version,
    /// The version that is tried.
    pub to: Version,
    pub phase: Phase,
    /// Supervisors that have begun in this phase.
    #[serde(default)]
    pub boots: u32,
    /// Why it went back.
    #[serde(default)]
    pub code: Option<String>,
    /// The same in a sentence.
    #[serde(default)]
    pub message: Option<String>,
}

/// Where a trial is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The new version is current.
    Trying,
    /// It did not register in time. The one before is current, and shows whether it can.
    Returned,
}

impl Trial {
    pub(super) fn read(program: &Path) -> Option<Self> {
        durable::read(&path(program))
    }

    pub(super) fn is_noted(program: &Path) -> bool {
        path(program).exists()
    }

    pub(super) fn write(&self, program: &Path) -> Result<(), FileError> {
        durable::write(&path(program), self)
    }

    pub(super) fn remove(program: &Path) -> Result<(), FileError> {
        durable::remove(&path(program))
    }

    pub(super) fn verdict(&self, outcome: UpdateOutcome) -> UpdateVerdict {
        let (from, to) = (&self.from, &self.to);
        let told = self.message.clone();
        UpdateVerdict {
            command_id: self.command_id,
            outcome,
            from_version: from.to_string(),
            to_version: to.to_string(),
            code: self.code.clone(),
            message: told.unwrap_or_else(|| format!("{to} runs and has registered; it was {from}")),
        }
    }
}

fn path(program: &Path) -> PathBuf {
    program.join("trial.json")
}
