//! The ledger's in-memory entries and the terms for their states.

use muster_protocol::CommandName;
use muster_protocol::frame::{InventoryState, Outcome, Response};
use muster_protocol::package::TaskRun;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::record::{CommandRecord, Launch, ParameterRecord};
use crate::executions::library_cache::LibraryFile;
use crate::platform::BootInstant;
use crate::policy::minimum_versions::Minimum;

/// The ledger's identity and counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub ledger_id: Uuid,
    /// Commands ever accepted. The file may lag behind the records, which also carry the count.
    pub acceptance_count: u64,
    pub highest_epoch: u64,
}

/// A command without a receipt.
#[derive(Debug, Clone)]
pub struct Entry {
    pub phase: Phase,
    /// Commands accepted earlier start earlier.
    pub order: u64,
    pub start_by: Option<BootInstant>,
    /// It runs a package, which must be there before its start.
    pub needs_package: bool,
    /// It has steps, whose progress is reported.
    pub has_steps: bool,
    /// A run that this host has started itself, which it announces to the server.
    pub task: Option<Box<TaskRun>>,
    /// A refusal or a cancellation of a command that was never accepted.
    pub(super) is_discardable: bool,
    /// A response that could not be written to the disk.
    pub(super) unsaved: Option<Box<Response>>,
}

/// The phase of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Waiting,
    Running,
    Settled,
}

/// What the ledger knows about a command id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KnownState {
    Never,
    Open(Phase),
    /// Settled, and the server has confirmed that it recorded the result.
    Receipted,
}

/// A command that is about to be accepted.
#[derive(Debug)]
pub struct NewCommand {
    pub command_id: Uuid,
    pub command: CommandName,
    pub start_by: Option<BootInstant>,
    pub launch: Option<Launch>,
    pub parameters: ParameterRecord,
    /// Bodies of scripts of the library.
    pub files: Vec<LibraryFile>,
    /// The oldest versions that may run once this command is accepted.
    pub minimums: Vec<Minimum>,
    /// The id of the request to the server, for the log.
    pub request_id: Option<String>,
    /// Set for a run that this host has started itself.
    pub task: Option<Box<TaskRun>>,
}

impl Entry {
    /// True for a run of a service, which has no longest time.
    pub fn is_service(&self) -> bool {
        self.task.as_ref().is_some_and(|run| run.is_service)
    }

    pub(super) fn of(record: &CommandRecord, phase: Phase) -> Self {
        Self {
            phase,
            order: record.acceptance_count,
            start_by: record.start_by.clone(),
            needs_package: record.launch.as_ref().is_some_and(Launch::needs_download),
            has_steps: record.launch.as_ref().is_some_and(|launch| !launch.steps.is_empty()),
            task: record.task.clone(),
            is_discardable: false,
            unsaved: None,
        }
    }

    /// The entry of a command that was answered without being accepted.
    pub(super) fn answered(response: &Response) -> Self {
        let is_discardable =
            matches!(response.outcome, Some(Outcome::Rejected | Outcome::Cancelled));
        Self { is_discardable, ..Self::settled() }
    }

    pub(super) fn settled() -> Self {
        Self {
            phase: Phase::Settled,
            order: 0,
            start_by: None,
            needs_package: false,
            has_steps: false,
            task: None,
            is_discardable: false,
            unsaved: None,
        }
    }
}

impl Phase {
    /// The state that the inventory reports.
    pub fn inventory_state(self) -> InventoryState {
        match self {
            Self::Waiting => InventoryState::Accepted,
            Self::Running => InventoryState::Running,
            Self::Settled => InventoryState::Settled,
        }
    }
}
