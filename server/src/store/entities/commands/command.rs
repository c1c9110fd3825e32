//! Table `commands`: durable commands, their state and their deadlines.

use muster_protocol::CommandName;
use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::commands::command_state::{CommandState, EndReason};
use crate::domain::commands::records::CommandRecord;
use crate::domain::commands::trigger::Trigger;
use crate::domain::ids::{AgentId, CommandId, JobId, PrincipalId, TenantId};
use crate::domain::time::Timestamp;

/// One durable command. The column `is_indexed` belongs to the history queries; it is `false` in a
/// new row.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "commands")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: CommandId,
    pub tenant_id: TenantId,
    pub agent_id: AgentId,
    pub command: String,
    pub data: String,
    /// Sealed secret parameters of an `execute`; removed when the command ends.
    pub sealed_parameters: Option<Vec<u8>>,
    pub state: CommandState,
    pub end_reason: Option<EndReason>,
    pub requested_by: PrincipalId,
    pub requested_from: Option<String>,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub timeout_ms: i64,
    pub lost_after_ms: i64,
    pub delivered_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub cancel_requested_at: Option<Timestamp>,
    /// The job that this execution belongs to.
    pub job_id: Option<JobId>,
    /// Wave of the rollout, counted from 1.
    pub wave: Option<i32>,
    /// Queued, and not sent until its rollout lifts the hold. Has no meaning once the command ended.
    pub is_held: bool,
    /// Script of an `execute`, empty for an ad-hoc command. Set for every execution and for no other
    /// command.
    pub script: Option<String>,
    pub trigger: Trigger,
    /// What an approver has signed about it: a `Capsule`, JSON.
    pub capsule: Option<String>,
    /// Of an execution that is run again by itself, counted from 1.
    pub attempt: i32,
    /// The execution that this one runs again.
    pub retry_of: Option<CommandId>,
    /// The execution that runs this one again.
    pub retried_as: Option<CommandId>,
    /// The job of an attempt after which another one followed; its `job_id` is `None`.
    pub retried_job_id: Option<JobId>,
    /// When the next attempt may be sent.
    pub not_before: Option<Timestamp>,
    /// Of the commands of an agent with the same lock, one at a time is sent.
    pub lock_name: Option<String>,
    /// It was requested with secret parameters, which are deleted at its end.
    pub has_secrets: bool,
    /// The id of the request that asked for it, for logs.
    pub request_id: Option<String>,
    /// How far its steps are: JSON.
    pub step_progress: Option<String>,
    /// Of a run of a service: how much of its newest output is kept.
    pub max_log_bytes: Option<i64>,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for CommandRecord {
    fn from(row: Model) -> Self {
        Self {
            id: row.id,
            agent_id: row.agent_id,
            command: row.command,
            data: row.data,
            state: row.state,
            end_reason: row.end_reason,
            requested_by: row.requested_by,
            requested_from: row.requested_from,
            created_at: row.created_at,
            expires_at: row.expires_at,
            timeout_ms: row.timeout_ms,
            lost_after_ms: row.lost_after_ms,
            delivered_at: row.delivered_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
            cancel_requested_at: row.cancel_requested_at,
            job_id: row.job_id.or(row.retried_job_id),
            wave: row.wave,
            is_held: row.is_held,
            script: row.script,
            trigger: row.trigger,
            attempt: row.attempt,
            retry_of: row.retry_of,
            retried_as: row.retried_as,
            not_before: row.not_before,
            lock: row.lock_name,
            has_secrets: row.has_secrets,
            request_id: row.request_id,
            step_progress: row.step_progress,
        }
    }
}

/// What the creator of a durable command decides. [`NewCommand::into_row`] adds the rest.
#[derive(Debug)]
pub struct NewCommand {
    pub id: CommandId,
    pub tenant_id: TenantId,
    pub agent_id: AgentId,
    pub name: CommandName,
    /// JSON.
    pub data: String,
    pub sealed_parameters: Option<Vec<u8>>,
    pub requested_by: PrincipalId,
    /// Address of the caller.
    pub requested_from: Option<String>,
    pub created_at: Timestamp,
    pub expires_in_ms: u64,
    pub timeout_ms: u64,
    pub lost_after_ms: u64,
    pub job_id: Option<JobId>,
    pub script: Option<String>,
    pub trigger: Trigger,
    pub retry_of: Option<CommandId>,
    pub lock_name: Option<String>,
    pub request_id: Option<String>,
}

impl NewCommand {
    /// The row of a command that is queued and not held by a rollout.
    pub fn into_row(self) -> Model {
        Model {
            id: self.id,
            tenant_id: self.tenant_id,
            agent_id: self.agent_id,
            command: self.name.as_str().to_owned(),
            data: self.data,
            has_secrets: self.sealed_parameters.is_some(),
            sealed_parameters: self.sealed_parameters,
            state: CommandState::Queued,
            end_reason: None,
            requested_by: self.requested_by,
            requested_from: self.requested_from,
            created_at: self.created_at,
            expires_at: self.created_at.plus_ms(self.expires_in_ms),
            timeout_ms: self.timeout_ms.cast_signed(),
            lost_after_ms: self.lost_after_ms.cast_signed(),
            delivered_at: None,
            started_at: None,
            finished_at: None,
            cancel_requested_at: None,
            job_id: self.job_id,
            wave: None,
            is_held: false,
            script: self.script,
            trigger: self.trigger,
            capsule: None,
            attempt: 1,
            retry_of: self.retry_of,
            retried_as: None,
            retried_job_id: None,
            not_before: None,
            lock_name: self.lock_name,
            request_id: self.request_id,
            step_progress: None,
            max_log_bytes: None,
        }
    }
}
