//! One attempt to deliver a webhook.

use serde_json::Value;

use super::Webhooks;
use super::outgoing::Outgoing;
use super::payload::{MAX_FAILED, WebhookPayload};
use crate::adapters::webhook_client::{WebhookMessage, WebhookResponse};
use crate::domain::ids::{JobId, TenantId, WebhookDeliveryId};
use crate::domain::integrations::records::WebhookAttempt;
use crate::domain::integrations::webhook::WebhookDeliveryState;
use crate::domain::integrations::webhook::retry::{
    NextWebhookDelivery, TRIED_FOR_MS, WebhookOutcome, due_unless_recorded, plan_delivery,
    retry_after_ms,
};
use crate::domain::time::Timestamp;
use crate::services::error::ServiceError;
use crate::store::StoreError;
use crate::store::entities::access::mail;
use crate::store::entities::integrations::{delivery, integration};
use crate::store::queries::{PendingWebhookDelivery, WebhookDeliveriesToSkip};
use muster_protocol::error_chain;

/// What a mail counts as that was given to who sends it.
const HANDED_OVER: u16 = 202;
/// Requests of one attempt at most.
const POSTS_AT_MOST: u64 = 2;
/// How long an attempt stays claimed after its time, if its result is not recorded.
const LEASE_MS: u64 = 1_000;

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
        let Some((row, integration)) = self.claim(id).await? else {
            return Ok(Responsiveness::Responsive);
        };
        let at = self.clock.now();
        let outgoing = match integration {
            None => self.message(&row, at).await.map(Outgoing::post),
            Some(integration) => self.outgoing(&integration, &row, at).await,
        };
        let is_integration = row.integration_id.is_some();
        let mut merged = Vec::new();
        let response = match outgoing {
            Ok(Outgoing::NotWanted) => {
                let system = self.store.system();
                if let Some(integration_id) = row.integration_id {
                    system.drop_message(integration_id, row.id, at).await?;
                }
                return Ok(Responsiveness::Responsive);
            }
            Ok(Outgoing::Posts { messages, with }) => {
                merged = with;
                self.send_all(messages).await
            }
            Ok(Outgoing::Mails { mails, with }) => {
                merged = with;
                self.hand_over(mails).await?
            }
            Err(ServiceError::Store(error)) => return Err(error),
            // The receiver cannot fix this, but an operator may, within the day.
            Err(error) => WebhookResponse::failed(error.to_string()),
        };
        let now = self.clock.now();
        let outcome = outcome_of(&response, is_integration, now);
        let attempt = recorded(at, response);
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
        let decide = move |row: &mut delivery::Model| {
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
        self.store.system().record_webhook_attempt(id, attempt, merged, decide).await?;
        if let Some(error) = error {
            tracing::info!(delivery_id = %id, host = row.host, status, error, "webhook delivery failed");
        }
        Ok(responsiveness)
    }

    /// Waits until this server wrote to the outbox.
    pub async fn outbox_written(&self) {
        self.store.writer().outbox_written().await;
    }

    /// Sends messages one after the other, up to the first that is not accepted.
    pub(in crate::services::integrations) async fn send_all(
        &self,
        messages: Vec<WebhookMessage>,
    ) -> WebhookResponse {
        let mut last = WebhookResponse::failed("there was nothing to send".to_owned());
        for message in messages {
            last = self.client.send(message).await;
            if !matches!(last.status, Some(200..=299)) {
                break;
            }
        }
        last
    }

    /// Gives mails to who sends them.
    pub(in crate::services::integrations) async fn hand_over(
        &self,
        mails: Vec<mail::Model>,
    ) -> Result<WebhookResponse, StoreError> {
        match self.store.system().queue_integration_mails(mails).await {
            Ok(()) => {
                self.mails.wake();
                Ok(WebhookResponse { status: Some(HANDED_OVER), ..WebhookResponse::accepted() })
            }
            Err(error @ StoreError::TooManyMails) => Ok(WebhookResponse::failed(error.to_string())),
            Err(error) => Err(error),
        }
    }

    async fn claim(
        &self,
        id: WebhookDeliveryId,
    ) -> Result<Option<(delivery::Model, Option<integration::Model>)>, StoreError> {
        let (now, first_retry) = (self.clock.now(), self.first_retry);
        // Longer than an attempt takes, so that no other server starts one meanwhile.
        let timeout_ms = u64::try_from(self.client.timeout().as_millis()).unwrap_or(u64::MAX);
        let plan = move |row: &mut delivery::Model| {
            if row.tries == 1 && row.integration_id.is_none() {
                // The server may have been down: the day starts with the first attempt.
                row.give_up_at = now.plus_ms(TRIED_FOR_MS);
            }
            let posts = if row.integration_id.is_some() { POSTS_AT_MOST } else { 1 };
            let lease_until =
                now.plus_ms(timeout_ms.saturating_mul(posts).saturating_add(LEASE_MS));
            let retry_at = due_unless_recorded(row.tries.unsigned_abs(), first_retry, now);
            row.due_at = Ord::max(retry_at, lease_until);
        };
        self.store.system().claim_webhook(id, now, plan).await
    }

    async fn message(
        &self,
        row: &delivery::Model,
        at: Timestamp,
    ) -> Result<WebhookMessage, ServiceError> {
        let body = self.body(row).await?;
        self.signed(row.tenant_id, &row.url, row.id.to_string(), at, body).await
    }

    /// A message with the signatures of its URL.
    pub(in crate::services::integrations) async fn signed(
        &self,
        tenant_id: TenantId,
        url: &str,
        id: String,
        at: Timestamp,
        body: Vec<u8>,
    ) -> Result<WebhookMessage, ServiceError> {
        let timestamp_s = at.0.div_euclid(1_000);
        let secrets = self.secrets(tenant_id, url, at).await?;
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
        let headers = vec![
            ("webhook-id", id),
            ("webhook-timestamp", timestamp_s.to_string()),
            ("webhook-signature", signatures.join(" ")),
        ];
        Ok(WebhookMessage { url: url.to_owned(), headers, body })
    }

    /// The same for every attempt, because the job has ended.
    async fn body(&self, row: &delivery::Model) -> Result<Vec<u8>, ServiceError> {
        let id = row.job_id.ok_or(ServiceError::NotFound("job"))?;
        let payload = self.job_payload(row.tenant_id, id, row.created_at).await?;
        // Texts, numbers and lists always serialise.
        Ok(serde_json::to_vec(&payload).unwrap_or_else(|_| Value::Null.to_string().into_bytes()))
    }

    /// The state of a job, with the first executions that did not succeed.
    pub(super) async fn job_payload(
        &self,
        tenant_id: TenantId,
        id: JobId,
        at: Timestamp,
    ) -> Result<WebhookPayload, ServiceError> {
        let tenant = self.store.tenant(tenant_id);
        let job = tenant.job(id).await?.ok_or(ServiceError::NotFound("job"))?;
        let progress = tenant.job_progress(&[job.id]).await?.remove(&job.id).unwrap_or_default();
        let failed = tenant.failed_executions(job.id, MAX_FAILED + 1).await?;
        let finished_at = job.finished_at.unwrap_or(at);
        Ok(WebhookPayload::new(job, &progress, finished_at, failed))
    }
}

/// An attempt as it is stored and shown.
pub(in crate::services::integrations) fn recorded(
    at: Timestamp,
    response: WebhookResponse,
) -> WebhookAttempt {
    WebhookAttempt {
        at,
        took_ms: u64::try_from(response.took.as_millis()).unwrap_or(u64::MAX),
        status: response.status,
        error: response.error.or_else(|| status_error(response.status)),
        response: response.excerpt,
    }
}

fn outcome_of(response: &WebhookResponse, is_integration: bool, now: Timestamp) -> WebhookOutcome {
    let retry_after = response.retry_after.as_deref();
    match response.status {
        Some(200..=299) => WebhookOutcome::Accepted,
        Some(410) => WebhookOutcome::Gone,
        // The provider refuses this message for good; the next ones must not wait for it.
        Some(400 | 413 | 422) if is_integration => WebhookOutcome::Gone,
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
