//! Questions and rare changes, a file per subject, under one of two scopes.
//!
//! What is looked up by a unique key is read with `all` and popped: `one` binds a `LIMIT`, which
//! makes SQLite plan the statement anew at every execution.

mod agent_deletion;
mod agent_keys;
mod agents;
mod api_keys;
mod audit;
mod authentication;
mod changes;
mod commands;
mod dispatch;
mod figures;
mod group_waves;
mod groups;
mod history;
mod host_rules;
mod jobs;
mod jobs_now;
mod output;
mod output_candidates;
mod output_compaction;
mod output_leftovers;
mod output_quota;
mod output_source;
mod releases;
mod rollouts;
mod settings;
mod sweeps;
mod targets;
mod telemetry;
mod webhook_keys;
mod webhooks;

use sea_orm::DatabaseConnection;

pub use self::agent_deletion::Deletion;
pub use self::agent_keys::AgentKeyChange;
pub use self::agents::AgentChange;
pub use self::authentication::{AgentKeyMatch, Bootstrap};
pub use self::changes::{ChangedCommand, EndedJob};
pub use self::commands::{Cancelled, CommandWithReport};
pub use self::groups::GroupChange;
pub use self::history::{CommandFilter, Effort, Explained};
pub use self::host_rules::StoredRules;
pub use self::jobs::{CancelledJob, JobProgress};
pub use self::output::{OutputStream, OutputSummary};
pub use self::output_candidates::Candidates;
pub use self::output_compaction::Compacted;
pub use self::releases::Publication;
pub use self::rollouts::{
    LiveRollout, RolloutCounts, RolloutNow, Steered, Steering, WaveAgent, WaveCounts,
};
pub use self::sweeps::{OfflineAgent, Retention};
pub use self::webhooks::{Busy, DeliveryFilter, FailedExecution, Waiting};
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
