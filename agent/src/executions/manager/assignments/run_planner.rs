//! What decides whether the host runs a package or a script that is assigned to it. Policies are above executions, so
//! this is a trait.

use std::fmt::Debug;

use muster_protocol::package::AssignedItem;

use crate::executions::ledger::record::{Launch, ParameterRecord};
use crate::executions::library_cache::LibraryFile;
use crate::policy::minimum_versions::Minimum;

/// Decides about runs by the host's policy of the moment.
pub trait RunPlanner: Debug + Send {
    /// What to start. Reads the policy again if it has changed.
    ///
    /// # Errors
    /// [`RunRefusal`]
    fn plan(&mut self, assigned: &AssignedItem) -> Result<PlannedRun, RunRefusal>;

    /// Stores durably, before a run starts, what its version makes too old.
    ///
    /// # Errors
    /// [`RunRefusal`]; the run must not start then.
    fn note_start(&mut self, minimums: &[Minimum]) -> Result<(), RunRefusal>;
}

/// A run that the host permits.
#[derive(Debug)]
pub struct PlannedRun {
    pub launch: Launch,
    pub parameters: ParameterRecord,
    /// The body of a script.
    pub files: Vec<LibraryFile>,
    /// The oldest versions that may run once this run is accepted.
    pub minimums: Vec<Minimum>,
}

/// Why the host does not run what is assigned to it: a stable code, and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRefusal {
    pub code: String,
    pub message: String,
}

/// The code of a start that is refused until the server takes results.
pub(super) const SPOOL_FULL: &str = "spool_full";
/// The code of a start that is refused because the body of its script is not there.
const NOT_DOWNLOADED: &str = "not_downloaded";

impl RunRefusal {
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into() }
    }

    pub(super) fn spool_full() -> Self {
        Self::new(SPOOL_FULL, "the server has not taken the results of earlier runs")
    }

    /// The body of a script is not on the host, or not as the assignment pins it.
    pub fn not_downloaded() -> Self {
        Self::new(NOT_DOWNLOADED, "the body of the script is not downloaded")
    }

    pub(super) fn is_not_downloaded(&self) -> bool {
        self.code == NOT_DOWNLOADED
    }

    pub(super) fn not_permitted() -> Self {
        Self::new("permission_denied", "this agent's key does not permit `execute`")
    }

    pub(super) fn not_runnable() -> Self {
        let message = "it is no task, service or script that this agent can read";
        Self::new("invalid_data", message)
    }
}
