//! Table `trigger_states`: what a schedule of a script with a trigger keeps for each agent.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::commands::command_state::CommandState;
use crate::domain::ids::{AgentId, CommandId, ScheduleId, TenantId, TriggerStateId};
use crate::domain::schedules::trigger_call::{CallOutcome, TriggerStateRecord};
use crate::domain::time::Timestamp;

/// The state of one schedule on one agent.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "trigger_states")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: TriggerStateId,
    pub tenant_id: TenantId,
    pub schedule_id: ScheduleId,
    pub agent_id: AgentId,
    /// JSON.
    pub data: String,
    pub data_version: i64,
    pub data_changed_at: Option<Timestamp>,
    pub call_count: i64,
    pub last_call_at: Timestamp,
    pub last_command_id: CommandId,
    pub last_outcome: Option<CallOutcome>,
    pub last_outcome_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// The record, with the state of its last call.
    pub fn into_record(self, last_state: Option<CommandState>) -> TriggerStateRecord {
        TriggerStateRecord {
            id: self.id,
            schedule_id: self.schedule_id,
            agent_id: self.agent_id,
            data: self.data,
            data_version: self.data_version,
            data_changed_at: self.data_changed_at,
            call_count: self.call_count,
            last_call_at: self.last_call_at,
            last_command_id: self.last_command_id,
            last_outcome: self.last_outcome,
            last_outcome_at: self.last_outcome_at,
            last_state,
        }
    }
}
