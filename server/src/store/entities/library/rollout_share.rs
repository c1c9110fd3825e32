//! Table `rollout_shares`: the agents that a wave of an assignment's rollout has reached.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::ids::{AgentId, AssignmentId, TenantId};
use crate::domain::library::assignment_rollout::{RolloutShare, ShareState};
use crate::domain::time::Timestamp;

/// How far one agent is with the version of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "rollout_shares")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub assignment_id: AssignmentId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub agent_id: AgentId,
    pub tenant_id: TenantId,
    pub wave: i32,
    pub state: ShareState,
    pub changed_at: Timestamp,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for RolloutShare {
    fn from(row: Model) -> Self {
        Self {
            agent_id: row.agent_id,
            wave: row.wave,
            state: row.state,
            changed_at: row.changed_at,
        }
    }
}
