//! Table `agent_updates`: where an agent is with the generation of its group.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::ids::{AgentId, CommandId, GroupId, TenantId};
use crate::domain::releases::group::UpdateState;
use crate::domain::time::Timestamp;

/// Where an agent is with the generation of its group. An agent has one at the most.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "agent_updates")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub agent_id: AgentId,
    pub tenant_id: TenantId,
    pub group_id: GroupId,
    /// Of the group, when this was written.
    pub generation: i64,
    pub wave: i32,
    pub state: UpdateState,
    /// The command that asked last. It may not have been stored: then it never was.
    pub command_id: CommandId,
    pub tries: i32,
    /// Of a pending one.
    pub due_at: Timestamp,
    /// Why it is pending or failed.
    pub code: Option<String>,
    pub message: Option<String>,
    pub changed_at: Timestamp,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
