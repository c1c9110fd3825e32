//! `trial.json` in the program folder: which version is being tried, across restarts.

use std::path::{Path, PathBuf};

use muster_protocol::release::{UpdateOutcome, UpdateRequest, UpdateResult, Version};
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
    /// How it has ended, once that is certain. What is left is to carry it out and to tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<UpdateOutcome>,
}

/// Where a trial is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The new version runs; the one before it is current.
    Trying,
    /// It did not prove itself. The one before runs, and shows whether it can register.
    Returned,
}

impl Trial {
    /// `None` if there is none, or what is there makes no sense.
    pub(super) fn read(program: &Path) -> Result<Option<Self>, FileError> {
        let bytes = durable::read_if_there(&path(program))?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// The version that is to run while this goes on.
    pub fn running(&self) -> &Version {
        match self.phase {
            Phase::Trying => &self.to,
            Phase::Returned => &self.from,
        }
    }

    /// True while it is yet to be seen whether the new version proves itself.
    pub fn is_undecided(&self) -> bool {
        self.phase == Phase::Trying && self.outcome.is_none()
    }

    /// True if this wish has led to it.
    pub(super) fn is_of(&self, wish: &UpdateRequest) -> bool {
        self.command_id == wish.command_id && self.to == wish.version
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

    pub(super) fn verdict(&self, outcome: UpdateOutcome) -> UpdateResult {
        let (from, to) = (&self.from, &self.to);
        let told = self.message.clone();
        UpdateResult {
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
