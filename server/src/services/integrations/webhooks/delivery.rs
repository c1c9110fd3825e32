//! One attempt at a delivery, from the row to the row.

use serde_json::Value;

use super::Webhooks;
use super::payload::{MAX_FAILED, Payload};
use crate::adapters::webhook_client::{Message, Reply};
use crate::domain::ids::DeliveryId;
use crate::domain::integrations::webhook::DeliveryState;
use crate::domain::integrations::webhook::retry::{
    Answer, Next, TRIED_FOR_MS, due_unless_recorded, next, retry_after_ms,
};
use crate::domain::time::Timestamp;
use crate::services::error::{ServiceError, chain};
use crate::store::StoreError;
use crate::store::entities::integrations::webhook_delivery;
use crate::store::entities::integrations::webhook_delivery::Attempt;
use crate::store::queries::{Busy, Waiting};

/// Whether a host has answered, whatever it said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contact {
    Answered,
    Silent,
}

impl Webhooks {
    /// The deliveries that are due first, soonest first; some may not be due yet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn waiting(&self, busy: &Busy, limit: u64) -> Result<Vec<Waiting>, StoreError> {
        self.store.system().waiting_webhooks(busy, limit).await
    }

    /// The present instant, by which deliveries are due.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Sends a delivery once, and writes down what came of it. If the server ends between the two,
    /// the message is sent again: receivers know it by its id. The try itself is written down first,
    /// so that a database that takes no writes lets nothing out, and a try of which nothing could be
    /// recorded is followed as late as any other.
    ///
    /// # Errors
    /// [`StoreError`]. If it could not be begun, it stays due and nothing was sent; else it is due
    /// again as after a refusal.
    pub async fn attempt(&self, id: DeliveryId) -> Result<Contact, StoreError> {
        let Some(row) = self.claim(id).await? else { return Ok(Contact::Answered) };
        let at = self.clock.now();
        let reply = match self.message(&row, at).await {
            Ok(message) => self.client.send(message).await,
            Err(ServiceError::Store(error)) => return Err(error),
            // Nothing that a receiver could mend; an operator may within a day.
            Err(error) => Reply::failed(error.to_string()),
        };
        let now = self.clock.now();
        let answer = judge(&reply, now);
        let attempt = Attempt {
            at,
            took_ms: u64::try_from(reply.took.as_millis()).unwrap_or(u64::MAX),
            status: reply.status,
            error: reply.error.or_else(|| objection(reply.status)),
            response: reply.excerpt,
        };
        self.meters.attempted(match answer {
            Answer::Taken => "delivered",
            Answer::Gone => "gone",
            Answer::Refused { .. } if attempt.status.is_some() => "refused",
            Answer::Refused { .. } => "unreachable",
        });
        let (status, error) = (attempt.status, attempt.error.clone());
        let contact = if status.is_some() { Contact::Answered } else { Contact::Silent };
        let first_retry = self.first_retry;
        let decide = move |row: &mut webhook_delivery::Model| {
            match next(answer, row.tries.unsigned_abs(), first_retry, now, row.give_up_at) {
                Next::Delivered => row.state = DeliveryState::Delivered,
                Next::GivenUp => row.state = DeliveryState::Failed,
                Next::RetryScope { due_at } => {
                    row.due_at = due_at;
                    return;
                }
            }
            row.finished_at = Some(now);
        };
        self.store.system().record_webhook_attempt(id, attempt, decide).await?;
        if let Some(error) = error {
            tracing::info!(delivery_id = %id, host = row.host, status, error, "a webhook was not taken");
        }
        Ok(contact)
    }

    async fn claim(&self, id: DeliveryId) -> Result<Option<webhook_delivery::Model>, StoreError> {
        let (now, first_retry) = (self.clock.now(), self.first_retry);
        let plan = move |row: &mut webhook_delivery::Model| {
            if row.tries == 1 {
                // The server may have been away meanwhile: the day begins with the first try.
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
    ) -> Result<Message, ServiceError> {
        let body = self.body(row).await?;
        let (id, timestamp_s) = (row.id.to_string(), at.0.div_euclid(1_000));
        let secrets = self.secrets(row.tenant_id, &row.url, at).await?;
        // The present one has to be there; one in its grace may have gone with its master key.
        let mut signatures = Vec::with_capacity(secrets.len());
        for (place, secret) in secrets.into_iter().enumerate() {
            match secret {
                Ok(secret) => signatures.push(secret.sign(&id, timestamp_s, &body)),
                Err(error) if place == 0 => {
                    tracing::error!(error = chain(&error), "failed to sign a webhook");
                    return Err(ServiceError::Conflict {
                        code: "webhook_key_unreadable",
                        detail: format!("failed to {error}"),
                    });
                }
                Err(_) => {}
            }
        }
        let signature = signatures.join(" ");
        Ok(Message { url: row.url.clone(), id, timestamp_s, signature, body })
    }

    /// The same for every attempt: what it is made from has ended.
    async fn body(&self, row: &webhook_delivery::Model) -> Result<Vec<u8>, ServiceError> {
        let tenant = self.store.tenant(row.tenant_id);
        let job = tenant.job(row.job_id).await?.ok_or(ServiceError::NotFound("job any more"))?;
        let progress = tenant.job_progress(&[job.id]).await?.remove(&job.id).unwrap_or_default();
        let failed = tenant.failed_executions(job.id, MAX_FAILED + 1).await?;
        let finished_at = job.finished_at.unwrap_or(row.created_at);
        let payload = Payload::new(job, &progress, finished_at, failed);
        // Texts, numbers and lists always make JSON.
        Ok(serde_json::to_vec(&payload).unwrap_or_else(|_| Value::Null.to_string().into_bytes()))
    }
}

fn judge(reply: &Reply, now: Timestamp) -> Answer {
    let retry_after = reply.retry_after.as_deref();
    match reply.status {
        Some(200..=299) => Answer::Taken,
        Some(410) => Answer::Gone,
        _ => Answer::Refused {
            retry_after_ms: retry_after.and_then(|value| retry_after_ms(value, now)),
        },
    }
}

fn objection(status: Option<u16>) -> Option<String> {
    match status? {
        200..=299 => None,
        status @ 300..=399 => Some(format!(
            "the receiver answered {status}; redirects are not followed: give the address it leads to"
        )),
        410 => Some("the receiver answered 410: it wants no more of this".to_owned()),
        status => Some(format!("the receiver answered {status}")),
    }
}
