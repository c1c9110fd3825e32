//! Table `commands`: one durable command and where it is.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::commands::command_state::{CommandState, EndReason};
use crate::domain::commands::trigger::Trigger;
use crate::domain::ids::{AgentId, ApiKeyId, CommandId, JobId, TenantId};
use crate::domain::time::Timestamp;

/// One durable command and where it is. The column `is_indexed` is the history's own, and `false`
/// in a new row.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "commands")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: CommandId,
    pub tenant_id: TenantId,
    pub agent_id: AgentId,
    pub command: String,
    pub data: String,
    /// Secret parameters of an `execute`, sealed, until it ends.
    pub sealed_parameters: Option<Vec<u8>>,
    pub state: CommandState,
    pub end_reason: Option<EndReason>,
    pub requested_by: ApiKeyId,
    pub requested_from: Option<String>,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub timeout_ms: i64,
    pub lost_after_ms: i64,
    pub delivered_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub cancel_requested_at: Option<Timestamp>,
    /// The job that it is an execution of.
    pub job_id: Option<JobId>,
    /// Of a roll-out: the wave that it belongs to, counted from 1.
    pub wave: Option<i32>,
    /// Queued, and not to be sent before its roll-out lets it go. Of those that have ended it means
    /// nothing.
    pub is_held: bool,
    /// The script of an `execute`, empty if it is an ad-hoc command; every execution has one, and no
    /// other command does.
    pub script: Option<String>,
    pub trigger: Trigger,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
