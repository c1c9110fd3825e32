//! Table `deliveries`: the outbox, one message to a webhook or an integration, and its attempts.

use sea_orm::FromJsonQueryResult;
use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};
use serde::{Deserialize, Serialize};

use uuid::Uuid;

use crate::domain::ids::{IntegrationId, JobId, TenantId, WebhookDeliveryId};
use crate::domain::integrations::records::{WebhookAttempt, WebhookDeliveryRecord};
use crate::domain::integrations::webhook::WebhookDeliveryState;
use crate::domain::time::Timestamp;

/// Most attempts that are stored for a delivery: the newest.
pub const KEPT_ATTEMPTS: usize = 20;

/// One message. Its body is rendered for every attempt.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "deliveries")]
pub struct Model {
    /// The same for every attempt, so that receivers recognise repeated messages.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: WebhookDeliveryId,
    pub tenant_id: TenantId,
    /// `None` for the webhook of a job.
    pub integration_id: Option<IntegrationId>,
    pub job_id: Option<JobId>,
    pub event: String,
    pub url: String,
    pub host: String,
    pub state: WebhookDeliveryState,
    pub created_at: Timestamp,
    /// The place in the queue of an integration; not sent before.
    pub ready_at: Timestamp,
    /// When the next attempt is due, while the delivery is pending.
    pub due_at: Timestamp,
    /// No attempt is made after this time.
    pub give_up_at: Timestamp,
    pub finished_at: Option<Timestamp>,
    /// All attempts, including those that are no longer stored.
    pub attempt_count: i32,
    /// Attempts since the delivery was created or a person last sent it again, including those
    /// whose result could not be recorded.
    pub tries: i32,
    pub attempts: WebhookAttempts,
    /// The resource that the event of an integration is about.
    pub subject_id: Option<Uuid>,
    /// What was known of the event, JSON.
    pub data: Option<String>,
    pub group_key: Option<String>,
    /// Events that this message reports beside its own.
    pub repeat_count: i32,
}

/// The newest attempts, oldest first, as a JSON array.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
#[serde(transparent)]
pub struct WebhookAttempts(pub Vec<WebhookAttempt>);

impl WebhookAttempts {
    /// Adds the newest attempt, and drops the oldest above [`KEPT_ATTEMPTS`].
    pub fn push(&mut self, attempt: WebhookAttempt) {
        self.0.push(attempt);
        let excess = self.0.len().saturating_sub(KEPT_ATTEMPTS);
        self.0.drain(..excess);
    }
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for WebhookDeliveryRecord {
    fn from(row: Model) -> Self {
        Self {
            id: row.id,
            integration_id: row.integration_id,
            job_id: row.job_id,
            event: row.event,
            url: row.url,
            state: row.state,
            created_at: row.created_at,
            due_at: row.due_at,
            give_up_at: row.give_up_at,
            finished_at: row.finished_at,
            attempt_count: row.attempt_count,
            attempts: row.attempts.0,
            repeat_count: row.repeat_count,
        }
    }
}
