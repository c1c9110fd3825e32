//! Table `agent_events`: changes of an agent's state, one row for each.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use serde_json::json;

use crate::domain::fleet::agent::AgentEventKind;
use crate::domain::fleet::records::AgentEventRecord;
use crate::domain::ids::{AgentId, EventId, TenantId};
use crate::domain::integrations::event_type::EventType;
use crate::domain::integrations::integration::IntegrationEvent;
use crate::domain::time::Timestamp;

/// A change of an agent's state.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "agent_events")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: EventId,
    pub tenant_id: TenantId,
    pub agent_id: AgentId,
    pub kind: AgentEventKind,
    pub detail: Option<String>,
    pub at: Timestamp,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for AgentEventRecord {
    fn from(row: Model) -> Self {
        Self { id: row.id, kind: row.kind, detail: row.detail, at: row.at }
    }
}

impl Model {
    /// What integrations hear of it; `None` for events that they do not send.
    pub fn integration_event(&self) -> Option<IntegrationEvent> {
        let event = match self.kind {
            AgentEventKind::Enrolled => EventType::AgentEnrolled,
            AgentEventKind::Online => EventType::AgentOnline,
            AgentEventKind::Offline => EventType::AgentOffline,
            AgentEventKind::IdentityConflict
            | AgentEventKind::NameConflict
            | AgentEventKind::KeyPairChanged => EventType::IdentityAlert,
            _ => return None,
        };
        let detail = match self.kind {
            AgentEventKind::Offline => json!({"reason": self.detail}),
            AgentEventKind::Enrolled | AgentEventKind::Online => json!({}),
            kind => json!({"alert": kind, "detail": self.detail}),
        };
        Some(IntegrationEvent {
            tenant_id: self.tenant_id,
            event,
            at: self.at,
            subject_id: self.agent_id.0,
            agent_id: Some(self.agent_id),
            job_id: None,
            data: detail,
        })
    }
}
