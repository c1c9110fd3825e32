//! The manifest and policy that hosts reported.

use std::sync::{Arc, PoisonError, RwLock};

use crate::domain::fleet::forbidden_commands::ForbiddenCommands;
use crate::domain::fleet::manifest_digest::ManifestDigest;

/// The last report of one host. Every field is empty until it reports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostRules {
    /// Digest of its manifest.
    pub manifest: Option<ManifestDigest>,
    /// Why a newer manifest is not in force.
    pub manifest_error: Option<Arc<str>>,
    /// `manifest`, `library` or `shell`.
    pub policy: Option<Arc<str>>,
    /// Life-cycle commands that the host's policy forbids.
    pub forbidden: ForbiddenCommands,
}

/// The last report within a session.
#[derive(Debug, Default)]
pub struct ReportedRules(RwLock<HostRules>);

impl ReportedRules {
    /// The last report.
    pub fn get(&self) -> HostRules {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stores a new report and returns the previous one.
    pub fn replace(&self, rules: HostRules) -> HostRules {
        std::mem::replace(&mut self.0.write().unwrap_or_else(PoisonError::into_inner), rules)
    }
}
