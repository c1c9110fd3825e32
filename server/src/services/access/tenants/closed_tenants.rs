//! The tenants that are being deleted: their keys are refused, and nothing of theirs runs.
//!
//! One server uses a database at a time, so this set in memory is exact. It is read at the start, and
//! changed after each commit.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use crate::domain::ids::TenantId;
use crate::services::error::ServiceError;

/// The refusal of everything but a look at the tenant and its restoration.
pub(in crate::services) fn refusal() -> ServiceError {
    ServiceError::Forbidden {
        code: "tenant_closed",
        detail: "this tenant is being deleted; until then an owner can restore it with `muster tenant restore`"
            .into(),
    }
}

/// The set. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(in crate::services) struct ClosedTenants(Arc<RwLock<BTreeSet<TenantId>>>);

impl ClosedTenants {
    pub fn contains(&self, id: TenantId) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }

    pub fn insert(&self, id: TenantId) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(id);
    }

    pub fn remove(&self, id: TenantId) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }
}
