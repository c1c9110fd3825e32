//! Queries and rare changes, one file for each subject, in the scope of a tenant or of the system.
//!
//! Rows are looked up by a unique key with `all` and `pop`. `one` would bind a `LIMIT`, and SQLite
//! would then plan the statement again at every execution.

pub mod access;
pub mod commands;
pub mod fleet;
pub mod integrations;
pub mod operations;
pub mod releases;
use sea_orm::DatabaseConnection;

pub use self::access::agent_keys::AgentKeyChange;
pub use self::access::authentication::{AgentKeyMatch, Bootstrap};
pub use self::access::members::{NewOwner, SetupResult, SetupState};
pub use self::commands::changes::{ChangedCommand, EndedJob};
pub use self::commands::commands::{Cancelled, CommandWithReport};
pub use self::commands::history::{CommandFilter, Effort, Explained};
pub use self::commands::jobs::{CancelledJob, JobProgress};
pub use self::commands::output::candidates::CompactionCandidates;
pub use self::commands::output::compaction::Compacted;
pub use self::commands::output::{OutputStream, OutputSummary};
pub use self::commands::rollouts::{
    LiveRollout, RolloutAction, RolloutActionResult, RolloutCounts, RolloutProgress, WaveAgent,
    WaveCounts,
};
pub use self::fleet::adoption::{Adopted, Adoption};
pub use self::fleet::agent_deletion::Deletion;
pub use self::fleet::agents::AgentChange;
pub use self::fleet::host_rules::StoredRules;
pub use self::integrations::webhooks::{
    FailedExecution, PendingWebhookDelivery, WebhookDeliveriesToSkip, WebhookDeliveryFilter,
};
pub use self::operations::api_key_revocation::{Revocation, RevocationScope};
pub use self::operations::sweeps::{OfflineAgent, Retention};
pub use self::releases::groups::GroupChange;
pub use self::releases::releases::Publication;
use super::Writer;
use super::blobs::Blobs;
use crate::domain::ids::TenantId;

/// One tenant's data. Every query in it carries the tenant.
#[derive(Debug)]
pub struct TenantScope {
    reader: DatabaseConnection,
    writer: Writer,
    blobs: Blobs,
    tenant_id: TenantId,
}

impl TenantScope {
    pub(super) fn new(
        reader: DatabaseConnection,
        writer: Writer,
        blobs: Blobs,
        tenant_id: TenantId,
    ) -> Self {
        Self { reader, writer, blobs, tenant_id }
    }
}

/// The data of all tenants, for work that no tenant asked for.
#[derive(Debug)]
pub struct SystemScope {
    reader: DatabaseConnection,
    checkpointer: Option<DatabaseConnection>,
    writer: Writer,
    blobs: Blobs,
}

impl SystemScope {
    pub(super) fn new(
        reader: DatabaseConnection,
        checkpointer: Option<DatabaseConnection>,
        writer: Writer,
        blobs: Blobs,
    ) -> Self {
        Self { reader, checkpointer, writer, blobs }
    }
}
