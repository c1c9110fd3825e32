//! What decides whether the host runs a package that is assigned to it. Policies are above executions, so
//! this is a trait.

use std::fmt::Debug;

use muster_protocol::package::AssignedPackage;

use crate::executions::ledger::record::{Launch, ParameterRecord};
use crate::policy::minimum_versions::Minimum;

/// Decides about runs by the host's policy of the moment.
pub trait RunPlanner: Debug + Send {
    /// What to start. Reads the policy again if it has changed.
    ///
    /// # Errors
    /// [`RunRefusal`]
    fn plan(&mut self, assigned: &AssignedPackage) -> Result<PlannedRun, RunRefusal>;

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
    /// The oldest versions that may run once this run is accepted.
    pub minimums: Vec<Minimum>,
}

/// Why the host does not run an assigned package: a stable code, and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRefusal {
    pub code: String,
    pub message: String,
}

/// The code of a start that is refused until the server takes results.
pub(super) const SPOOL_FULL: &str = "spool_full";

impl RunRefusal {
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into() }
    }

    pub(super) fn spool_full() -> Self {
        Self::new(SPOOL_FULL, "the server has not taken the results of earlier runs")
    }

    pub(super) fn not_permitted() -> Self {
        Self::new("permission_denied", "this agent's key does not permit `execute`")
    }

    pub(super) fn not_runnable() -> Self {
        let message = "the package is no task or service that this agent can read";
        Self::new("invalid_data", message)
    }
}
