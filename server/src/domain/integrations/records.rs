//! What the API shows of stored rows: plain data, without hashes, sealed values and columns that only
//! the store needs. The entities convert their rows.

use serde::{Deserialize, Serialize};

use super::webhook::WebhookDeliveryState;
use crate::domain::ids::{IntegrationId, JobId, WebhookDeliveryId};
use crate::domain::time::Timestamp;

/// One message to a webhook or an integration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookDeliveryRecord {
    pub id: WebhookDeliveryId,
    /// `None` for the webhook of a job.
    pub integration_id: Option<IntegrationId>,
    pub job_id: Option<JobId>,
    pub event: String,
    pub url: String,
    pub state: WebhookDeliveryState,
    pub created_at: Timestamp,
    /// When the next attempt is due, while the delivery is pending.
    pub due_at: Timestamp,
    /// No attempt is made after this time.
    pub give_up_at: Timestamp,
    pub finished_at: Option<Timestamp>,
    /// All attempts, including those that are no longer stored.
    pub attempt_count: i32,
    /// The newest attempts, oldest first.
    pub attempts: Vec<WebhookAttempt>,
    /// Events that this message reports beside its own.
    pub repeat_count: i32,
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WebhookAttempt {
    pub at: Timestamp,
    /// From the name lookup to the last byte that was read.
    pub took_ms: u64,
    /// The HTTP status, if there was a response.
    pub status: Option<u16>,
    /// Why the attempt failed.
    pub error: Option<String>,
    /// The start of the response, up to 512 bytes, without control characters.
    pub response: Option<String>,
}
