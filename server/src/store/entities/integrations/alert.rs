//! Table `alerts`: when the condition of a rule held.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};
use serde_json::json;
use uuid::Uuid;

use crate::domain::ids::{AgentId, AlertId, AlertRuleId, TenantId};
use crate::domain::integrations::alert::{AlertEndReason, AlertMetric, AlertRecord};
use crate::domain::integrations::event_type::EventType;
use crate::domain::integrations::integration::IntegrationEvent;
use crate::domain::time::Timestamp;

/// An alert.
#[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "alerts")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: AlertId,
    pub tenant_id: TenantId,
    pub rule_id: AlertRuleId,
    pub rule_name: String,
    /// The agent, or the rule itself for the agents of its target together.
    pub subject_id: Uuid,
    pub agent_id: Option<AgentId>,
    pub metric: AlertMetric,
    pub threshold: f64,
    /// The value with which it opened.
    pub value: f64,
    pub opened_at: Timestamp,
    pub resolved_at: Option<Timestamp>,
    pub end_reason: Option<AlertEndReason>,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// What integrations send about it, now that it is open or resolved.
    pub(in crate::store) fn event(&self) -> IntegrationEvent {
        let event = match self.resolved_at {
            Some(_) => EventType::AlertResolved,
            None => EventType::AlertOpened,
        };
        IntegrationEvent {
            tenant_id: self.tenant_id,
            event,
            at: self.resolved_at.unwrap_or(self.opened_at),
            subject_id: self.id.0,
            agent_id: self.agent_id,
            job_id: None,
            data: json!({"alert_id": self.id, "rule_id": self.rule_id, "rule_name": self.rule_name,
                "agent_id": self.agent_id,
                "metric": self.metric, "threshold": self.threshold, "value": self.value,
                "opened_at": self.opened_at, "resolved_at": self.resolved_at,
                "reason": self.end_reason}),
        }
    }
}

impl From<Model> for AlertRecord {
    fn from(row: Model) -> Self {
        Self {
            id: row.id,
            rule_id: row.rule_id,
            rule_name: row.rule_name,
            agent_id: row.agent_id,
            metric: row.metric,
            threshold: row.threshold,
            value: row.value,
            opened_at: row.opened_at,
            resolved_at: row.resolved_at,
            end_reason: row.end_reason,
        }
    }
}
