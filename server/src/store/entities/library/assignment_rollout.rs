//! Table `assignment_rollouts`: versions of assignments that reach their agents in waves.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::ids::{AssignmentId, ContentId, TenantId};
use crate::domain::library::assignment_rollout::{AssignmentRollout, FormerVersion, RolloutState};
use crate::domain::time::Timestamp;

/// A rollout that is under way.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "assignment_rollouts")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub assignment_id: AssignmentId,
    pub tenant_id: TenantId,
    pub former_content_id: Option<ContentId>,
    pub former_version: Option<String>,
    /// JSON.
    pub wave_size: String,
    /// JSON.
    pub max_failures: String,
    pub healthy_for_ms: i64,
    pub state: RolloutState,
    pub halt_reason: Option<String>,
    pub wave: i32,
    pub healthy_wave: i32,
    pub started_at: Timestamp,
    pub changed_at: Timestamp,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for AssignmentRollout {
    fn from(row: Model) -> Self {
        let former = row.former_content_id.zip(row.former_version);
        Self {
            assignment_id: row.assignment_id,
            tenant_id: row.tenant_id,
            former: former.map(|(content_id, version)| FormerVersion { content_id, version }),
            wave_size: row.wave_size,
            max_failures: row.max_failures,
            healthy_for_ms: row.healthy_for_ms,
            state: row.state,
            halt_reason: row.halt_reason,
            wave: row.wave,
            healthy_wave: row.healthy_wave,
            started_at: row.started_at,
            changed_at: row.changed_at,
        }
    }
}

impl From<AssignmentRollout> for Model {
    fn from(record: AssignmentRollout) -> Self {
        let (former_content_id, former_version) =
            record.former.map(|former| (former.content_id, former.version)).unzip();
        Self {
            assignment_id: record.assignment_id,
            tenant_id: record.tenant_id,
            former_content_id,
            former_version,
            wave_size: record.wave_size,
            max_failures: record.max_failures,
            healthy_for_ms: record.healthy_for_ms,
            state: record.state,
            halt_reason: record.halt_reason,
            wave: record.wave,
            healthy_wave: record.healthy_wave,
            started_at: record.started_at,
            changed_at: record.changed_at,
        }
    }
}
