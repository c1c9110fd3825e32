//! Table `agent_updates`: the update of an agent in its group's current generation.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::ids::{AgentId, CommandId, GroupId, TenantId};
use crate::domain::releases::group::UpdateState;
use crate::domain::releases::records::AgentUpdateRecord;
use crate::domain::time::Timestamp;

/// The update of an agent in its group's current generation. An agent has at most one.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "agent_updates")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub agent_id: AgentId,
    pub tenant_id: TenantId,
    pub group_id: GroupId,
    /// The group's generation when this was written.
    pub generation: i64,
    pub wave: i32,
    pub state: UpdateState,
    /// The command that requested the update last. It may never have been stored.
    pub command_id: CommandId,
    pub tries: i32,
    /// When a pending agent is tried again.
    pub due_at: Timestamp,
    /// Why the agent is pending, unreachable or failed.
    pub code: Option<String>,
    pub message: Option<String>,
    pub changed_at: Timestamp,
    /// The cohort of the agent when the attempt started.
    pub cohort: String,
    /// The first of its cohort: the others wait until it has run a no-op execution.
    pub is_canary: bool,
    /// That execution, once the new version has registered. It may never have been stored.
    pub probe_command_id: Option<CommandId>,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for AgentUpdateRecord {
    fn from(row: Model) -> Self {
        Self {
            agent_id: row.agent_id,
            wave: row.wave,
            state: row.state,
            command_id: row.command_id,
            code: row.code,
            message: row.message,
            changed_at: row.changed_at,
        }
    }
}
