//! One attempt to deliver a webhook.

use serde_json::Value;

use super::Webhooks;
use super::payload::{MAX_FAILED, WebhookPayload};
use crate::adapters::webhook_client::{WebhookMessage, WebhookResponse};
use crate::domain::ids::WebhookDeliveryId;
use crate::domain::integrations::records::WebhookAttempt;
use crate::domain::integrations::webhook::WebhookDeliveryState;
use crate::domain::integrations::webhook::retry::{
    NextWebhookDelivery, TRIED_FOR_MS, WebhookOutcome, due_unless_recorded, plan_delivery,
    retry_after_ms,
};
use crate::domain::time::Timestamp;
use crate::services::error::ServiceError;
use crate::store::StoreError;
use crate::store::entities::integrations::webhook_delivery;
use crate::store::queries::{PendingWebhookDelivery, WebhookDeliveriesToSkip};
use muster_protocol::error_chain;

/// Whether the host answered, with any status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Responsiveness {
    Responsive,
    Unresponsive,
}

impl Webhooks {
    /// The pending deliveries in the order of their due times. Some may not be due yet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn waiting(
        &self,
        busy: &WebhookDeliveriesToSkip,
        limit: u64,
    ) -> Result<Vec<PendingWebhookDelivery>, StoreError> {
        self.store.system().waiting_webhooks(busy, limit).await
    }

    /// The current time, which decides whether a delivery is due.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Sends a delivery once, and records the result. If the server stops in between, the message
    /// is sent again; receivers recognise it by its id. The attempt is recorded before the request,
    /// so that a database that accepts no writes stops all sending, and an attempt whose result
    /// cannot be recorded delays the next one like any other.
    ///
    /// # Errors
    /// [`StoreError`]. If the attempt could not be recorded, the delivery stays due and nothing was
    /// sent; otherwise it is due again as after a refusal.
    pub async fn attempt(&self, id: WebhookDeliveryId) -> Result<Responsiveness, StoreError> {
        let Some(row) = self.claim(id).await? else { return Ok(Responsiveness::Responsive) };
        let at = self.clock.now();
        let response = match self.message(&row, at).await {
            Ok(message) => self.client.send(message).await,
            Err(ServiceError::Store(error)) => return Err(error),
            // The receiver cannot fix this, but an operator may, within the day.
            Err(error) => WebhookResponse::failed(error.to_string()),
        };
        let now = self.clock.now();
        let outcome = outcome_of(&response, now);
        let attempt = WebhookAttempt {
            at,
            took_ms: u64::try_from(response.took.as_millis()).unwrap_or(u64::MAX),
            status: response.status,
            error: response.error.or_else(|| status_error(response.status)),
            response: response.excerpt,
        };
        self.metrics.attempted(match outcome {
            WebhookOutcome::Accepted => "delivered",
            WebhookOutcome::Gone => "gone",
            WebhookOutcome::Refused { .. } if attempt.status.is_some() => "refused",
            WebhookOutcome::Refused { .. } => "unreachable",
        });
        let (status, error) = (attempt.status, attempt.error.clone());
        let responsiveness = if status.is_some() {
            Responsiveness::Responsive
        } else {
            Responsiveness::Unresponsive
        };
        let first_retry = self.first_retry;
        let decide = move |row: &mut webhook_delivery::Model| {
            match plan_delivery(outcome, row.tries.unsigned_abs(), first_retry, now, row.give_up_at)
            {
                NextWebhookDelivery::Delivered => row.state = WebhookDeliveryState::Delivered,
                NextWebhookDelivery::GivenUp => row.state = WebhookDeliveryState::Failed,
                NextWebhookDelivery::Retry { due_at } => {
                    row.due_at = due_at;
                    return;
                }
            }
            row.finished_at = Some(now);
        };
        self.store.system().record_webhook_attempt(id, attempt, decide).await?;
        if let Some(error) = error {
            tracing::info!(delivery_id = %id, host = row.host, status, error, "webhook delivery failed");
        }
        Ok(responsiveness)
    }

    async fn claim(
        &self,
        id: WebhookDeliveryId,
    ) -> Result<Option<webhook_delivery::Model>, StoreError> {
        let (now, first_retry) = (self.clock.now(), self.first_retry);
        let plan = move |row: &mut webhook_delivery::Model| {
            if row.tries == 1 {
                // The server may have been down: the day starts with the first attempt.
                row.give_up_at = now.plus_ms(TRIED_FOR_MS);
            }
            row.due_at = due_unless_recorded(row.tries.unsigned_abs(), first_retry, now);
        };
        self.store.system().claim_webhook(id, plan).await
    }

    async fn message(
        &self,
        row: &webhook_delivery::Model,
        at: Timestamp,
    ) -> Result<WebhookMessage, ServiceError> {
        let body = self.body(row).await?;
        let (id, timestamp_s) = (row.id.to_string(), at.0.div_euclid(1_000));
        let secrets = self.secrets(row.tenant_id, &row.url, at).await?;
        // The current key must exist. A key in its grace period may be lost with its master key.
        let mut signatures = Vec::with_capacity(secrets.len());
        for (place, secret) in secrets.into_iter().enumerate() {
            match secret {
                Ok(secret) => signatures.push(secret.sign(&id, timestamp_s, &body)),
                Err(error) if place == 0 => {
                    tracing::error!(error = error_chain(&error), "failed to sign a webhook");
                    return Err(ServiceError::Conflict {
                        code: "webhook_key_unreadable",
                        detail: error.to_string(),
                    });
                }
                Err(_) => {}
            }
        }
        let signature = signatures.join(" ");
        Ok(WebhookMessage { url: row.url.clone(), id, timestamp_s, signature, body })
    }

    /// The same for every attempt, because the job has ended.
    async fn body(&self, row: &webhook_delivery::Model) -> Result<Vec<u8>, ServiceError> {
        let tenant = self.store.tenant(row.tenant_id);
        let job = tenant.job(row.job_id).await?.ok_or(ServiceError::NotFound("job"))?;
        let progress = tenant.job_progress(&[job.id]).await?.remove(&job.id).unwrap_or_default();
        let failed = tenant.failed_executions(job.id, MAX_FAILED + 1).await?;
        let finished_at = job.finished_at.unwrap_or(row.created_at);
        let payload = WebhookPayload::new(job, &progress, finished_at, failed);
        // Texts, numbers and lists always serialise.
        Ok(serde_json::to_vec(&payload).unwrap_or_else(|_| Value::Null.to_string().into_bytes()))
    }
}

fn outcome_of(response: &WebhookResponse, now: Timestamp) -> WebhookOutcome {
    let retry_after = response.retry_after.as_deref();
    match response.status {
        Some(200..=299) => WebhookOutcome::Accepted,
        Some(410) => WebhookOutcome::Gone,
        _ => WebhookOutcome::Refused {
            retry_after_ms: retry_after.and_then(|value| retry_after_ms(value, now)),
        },
    }
}

fn status_error(status: Option<u16>) -> Option<String> {
    match status? {
        200..=299 => None,
        status @ 300..=399 => Some(format!(
            "the receiver answered {status}; redirects are not followed, so use the final URL"
        )),
        410 => Some("the receiver answered 410: the webhook no longer exists".to_owned()),
        status => Some(format!("the receiver answered {status}")),
    }
}
