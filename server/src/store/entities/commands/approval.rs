//! Table `approvals`: requests for another person's yes, and how they ended.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use serde_json::json;

use crate::domain::commands::approval::{ApprovalRecord, ApprovalState, WorkApproval};
use crate::domain::ids::{ApprovalId, CommandId, JobId, PrincipalId, TenantId};
use crate::domain::integrations::event_type::EventType;
use crate::domain::integrations::integration::IntegrationEvent;
use crate::domain::time::Timestamp;
use crate::store::entities::column::{StoredPins, StringList};

/// A request for approval. The work that waits is stored with it, and held.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "approvals")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ApprovalId,
    pub tenant_id: TenantId,
    pub state: ApprovalState,
    /// Names of the rules, which may have been deleted since.
    pub rules: StringList,
    /// The job that waits, or the command.
    pub job_id: Option<JobId>,
    pub command_id: Option<CommandId>,
    pub command: String,
    /// Empty for an ad-hoc command; `None` for a life-cycle command.
    pub script: Option<String>,
    /// Data of the command, JSON, without secret parameters.
    pub data: String,
    pub agent_count: i64,
    pub pinned: StoredPins,
    /// How long the work waits for its agents once it is released.
    pub expires_in_ms: i64,
    pub requested_by: PrincipalId,
    pub requested_from: Option<String>,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub decided_by: Option<PrincipalId>,
    pub decided_at: Option<Timestamp>,
    pub reason: Option<String>,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// What integrations hear of a new request.
    pub fn requested_event(&self) -> IntegrationEvent {
        IntegrationEvent {
            tenant_id: self.tenant_id,
            event: EventType::ApprovalRequested,
            at: self.created_at,
            subject_id: self.id.0,
            agent_id: None,
            job_id: self.job_id,
            data: json!({"rules": self.rules.0, "command": self.command, "script": self.script,
                "agent_count": self.agent_count, "command_id": self.command_id,
                "requested_by": self.requested_by, "expires_at": self.expires_at}),
        }
    }
}

impl From<Model> for WorkApproval {
    fn from(row: Model) -> Self {
        Self {
            id: row.id,
            state: row.state,
            rules: row.rules.0,
            expires_at: row.expires_at,
            decided_by: row.decided_by,
            decided_by_name: None,
            reason: row.reason,
        }
    }
}

impl From<Model> for ApprovalRecord {
    fn from(row: Model) -> Self {
        Self {
            id: row.id,
            state: row.state,
            rules: row.rules.0,
            job_id: row.job_id,
            command_id: row.command_id,
            command: row.command,
            script: row.script,
            data: row.data,
            agent_count: row.agent_count,
            pinned: row.pinned.0,
            requested_by: row.requested_by,
            requested_by_name: None,
            requested_from: row.requested_from,
            created_at: row.created_at,
            expires_at: row.expires_at,
            decided_by: row.decided_by,
            decided_by_name: None,
            decided_at: row.decided_at,
            reason: row.reason,
        }
    }
}
