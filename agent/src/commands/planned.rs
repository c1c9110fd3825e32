//! What a plan is made of: the rules of the host, and what may start.

use muster_protocol::manifest::Manifest;

use super::execute::OutputLimits;
use crate::executions::ledger::record::{Launch, ParameterRecord};
use crate::executions::library_cache::LibraryFile;
use crate::policy::Policy;
use crate::policy::minimum_versions::{Minimum, MinimumVersions};

/// What the host permits, and what it knows beside the command.
#[derive(Clone, Copy)]
pub struct HostRules<'a> {
    pub manifest: &'a Manifest,
    pub policy: &'a Policy,
    pub minimum_versions: &'a MinimumVersions,
    pub output: OutputLimits,
    /// The host's clock, in milliseconds since the Unix epoch.
    pub now_ms: u64,
}

/// What may start.
#[derive(Debug)]
pub struct Planned {
    pub launch: Launch,
    pub parameters: ParameterRecord,
    /// Bodies of scripts of the library.
    pub files: Vec<LibraryFile>,
    /// What statements of publishers make the oldest versions.
    pub minimums: Vec<Minimum>,
}
