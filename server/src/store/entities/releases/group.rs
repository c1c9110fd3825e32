//! Table `agent_groups`: agents that are to be of one version.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::ids::{ApiKeyId, GroupId, TenantId};
use crate::domain::releases::group::GroupState;
use crate::domain::time::Timestamp;

/// Agents that are to be of one version. Who is meant is asked anew each time.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "agent_groups")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: GroupId,
    pub tenant_id: TenantId,
    pub name: String,
    /// A `TargetSpec`, JSON.
    pub target: String,
    /// Absent leaves agents as they are.
    pub desired_version: Option<String>,
    /// A number or a share, JSON.
    pub wave_size: String,
    /// The same.
    pub max_failures: String,
    pub healthy_for_ms: i64,
    pub state: GroupState,
    /// Why it halted, in a sentence, while it is halted.
    pub halt_reason: Option<String>,
    /// Counts the wishes: what was done for an earlier one counts no more.
    pub generation: i64,
    /// The last wave of this generation that was begun; 0 before the first.
    pub wave: i32,
    /// The last wave whose health nobody waits for any more.
    pub healthy_wave: i32,
    /// Whose generation it is.
    pub requested_by: ApiKeyId,
    pub created_at: Timestamp,
    pub changed_at: Timestamp,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
