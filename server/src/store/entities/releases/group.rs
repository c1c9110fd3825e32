//! Table `agent_groups`: groups of agents that follow one version.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::ids::{GroupId, PrincipalId, TenantId};
use crate::domain::releases::group::GroupState;
use crate::domain::releases::records::GroupRecord;
use crate::domain::time::Timestamp;

/// A group of agents that follow one version. Its target is resolved each time.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "agent_groups")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: GroupId,
    pub tenant_id: TenantId,
    pub name: String,
    /// A `TargetSpec`, JSON.
    pub target: String,
    /// `None`: the group does not change the version of its agents.
    pub desired_version: Option<String>,
    /// A number or a percentage, JSON.
    pub wave_size: String,
    /// The same.
    pub max_failures: String,
    pub healthy_for_ms: i64,
    pub state: GroupState,
    /// Why it halted, as a sentence; only while it is halted.
    pub halt_reason: Option<String>,
    /// Counts the desired versions. Updates of earlier generations are ignored.
    pub generation: i64,
    /// The last wave that was started in this generation; 0 before the first.
    pub wave: i32,
    /// The last wave that passed its health gate.
    pub healthy_wave: i32,
    /// The API key that set the desired version.
    pub requested_by: PrincipalId,
    pub created_at: Timestamp,
    pub changed_at: Timestamp,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for GroupRecord {
    fn from(row: Model) -> Self {
        Self {
            id: row.id,
            name: row.name,
            target: row.target,
            desired_version: row.desired_version,
            wave_size: row.wave_size,
            max_failures: row.max_failures,
            healthy_for_ms: row.healthy_for_ms,
            state: row.state,
            halt_reason: row.halt_reason,
            wave: row.wave,
            requested_by: row.requested_by,
            created_at: row.created_at,
            changed_at: row.changed_at,
        }
    }
}
