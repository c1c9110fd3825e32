//! Table `webhook_deliveries`: one message to a webhook, and what became of it.

use sea_orm::FromJsonQueryResult;
use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};
use serde::{Deserialize, Serialize};

use crate::domain::ids::{DeliveryId, JobId, TenantId};
use crate::domain::integrations::webhook::DeliveryState;
use crate::domain::time::Timestamp;

/// Attempts of one delivery that are kept: the newest.
pub const KEPT_ATTEMPTS: usize = 20;

/// One message to a webhook. What it says is made anew from the job for every attempt.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "webhook_deliveries")]
pub struct Model {
    /// The same for every attempt: receivers know by it what they have already.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: DeliveryId,
    pub tenant_id: TenantId,
    pub job_id: JobId,
    pub event: String,
    pub url: String,
    pub host: String,
    pub state: DeliveryState,
    pub created_at: Timestamp,
    /// When it is to be tried, while it is pending.
    pub due_at: Timestamp,
    /// Nothing is tried from then on.
    pub give_up_at: Timestamp,
    pub finished_at: Option<Timestamp>,
    /// All attempts, those that are no longer kept included.
    pub attempt_count: i32,
    /// Attempts begun since it was made or last sent again by hand, whether or not it could be
    /// written down what came of them.
    pub tries: i32,
    pub attempts: Attempts,
}

/// The newest attempts, oldest first, as a JSON array.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
#[serde(transparent)]
pub struct Attempts(pub Vec<Attempt>);

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Attempt {
    pub at: Timestamp,
    /// From the first look-up of the name to the last byte that was read.
    pub took_ms: u64,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// Why it did not get there, or was not taken.
    pub error: Option<String>,
    /// The beginning of the answer, up to 512 bytes, without control characters.
    pub response: Option<String>,
}

impl Attempts {
    /// Adds the newest; the oldest beyond [`KEPT_ATTEMPTS`] go.
    pub fn push(&mut self, attempt: Attempt) {
        self.0.push(attempt);
        let excess = self.0.len().saturating_sub(KEPT_ATTEMPTS);
        self.0.drain(..excess);
    }
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
