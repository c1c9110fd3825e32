//! Who wanted an execution to end before its time, and how that is reported.

use serde::{Deserialize, Serialize};

/// Error code of what a person on the host has ended.
const ENDED_BY_HOST_OWNER: &str = "ended_by_host_owner";

/// A request that a shim ends its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelRecord {
    /// Time between TERM and KILL.
    pub grace_ms: u64,
    /// Who wants it; the server if absent.
    #[serde(default)]
    pub by: CancelledBy,
}

/// Who wants an execution to end before its time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelledBy {
    /// A cancelled command, an aborted job, a stopped service.
    #[default]
    Server,
    /// A person on the host.
    HostOwner,
}

impl CancelledBy {
    /// The error code, and what was done to the subject of a sentence.
    pub(super) fn ended(self) -> (&'static str, &'static str) {
        match self {
            Self::Server => ("cancelled", "ended because the command was cancelled"),
            Self::HostOwner => (ENDED_BY_HOST_OWNER, "ended on the host by its owner"),
        }
    }

    /// The same for what had not started.
    pub fn not_started(self) -> (&'static str, &'static str) {
        match self {
            Self::Server => ("cancelled", "the command was cancelled before it started"),
            Self::HostOwner => (
                ENDED_BY_HOST_OWNER,
                "the command was ended on the host by its owner before it started",
            ),
        }
    }
}
