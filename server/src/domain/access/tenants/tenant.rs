//! What the API shows of a tenant.

use super::plan::Plan;
use crate::domain::ids::TenantId;
use crate::domain::time::Timestamp;

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantRecord {
    pub id: TenantId,
    pub name: String,
    pub plan: Plan,
    pub created_at: Timestamp,
    /// When everything of it is deleted; `None` unless that was asked for.
    pub delete_at: Option<Timestamp>,
    /// True if members with a password may do nothing without a second factor.
    pub requires_second_factor: bool,
    /// True if the schedules of members who left pass to an owner. Otherwise they stop.
    pub passes_schedules_on: bool,
    /// How many bytes of history and output it may store; `None`: what its plan allows.
    pub storage_quota_bytes: Option<u64>,
}

impl TenantRecord {
    /// The quota that counts: its own, or the one of its plan. `None`: there is none.
    pub fn storage_limit_bytes(&self) -> Option<u64> {
        self.storage_quota_bytes.or(self.plan.limits().storage_bytes)
    }
}

/// How much a tenant has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TenantUsage {
    /// Enrolled agents, connected or not.
    pub agents: u64,
    /// Executions in the history.
    pub executions: u64,
    /// Stored output, as it is stored.
    pub output_bytes: u64,
}
