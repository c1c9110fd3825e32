//! What hosts say that they let the server ask for.

use std::sync::{Arc, PoisonError, RwLock};

use crate::domain::fleet::manifest_digest::ManifestDigest;

/// The rules of one host, as it last told them; all of it unknown until it does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostRules {
    /// Its list of scripts.
    pub manifest: Option<ManifestDigest>,
    /// Why a newer list is not in force.
    pub manifest_error: Option<Arc<str>>,
    /// `manifest`, `library` or `shell`.
    pub policy: Option<Arc<str>>,
}

/// The rules as they stand in a session.
#[derive(Debug, Default)]
pub struct ReportedRules(RwLock<HostRules>);

impl ReportedRules {
    /// What the host said last.
    pub fn get(&self) -> HostRules {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes what the host says now; what it said before.
    pub fn replace(&self, rules: HostRules) -> HostRules {
        std::mem::replace(&mut self.0.write().unwrap_or_else(PoisonError::into_inner), rules)
    }
}
