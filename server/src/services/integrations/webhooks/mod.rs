//! Webhook deliveries and secrets: use cases of the API. [`delivery`] sends them.

mod delivery;
mod outgoing;
mod payload;
pub(in crate::services) mod signature;

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

pub use self::delivery::Responsiveness;
pub(super) use self::delivery::recorded;
pub(super) use self::outgoing::Outgoing;
pub use self::signature::{Rotated, UrlSecret};
use crate::adapters::webhook_client::WebhookClient;
use crate::domain::access::principal::Scope;
use crate::domain::ids::WebhookDeliveryId;
use crate::domain::integrations::records::WebhookDeliveryRecord;
use crate::domain::integrations::webhook::retry::TRIED_FOR_MS;
use crate::domain::outbound::{OutboundReach, OutboundUrl};
use crate::domain::page::{Page, PageRequest};
use crate::domain::secret_box::SecretBox;
use crate::domain::time::Clock;
use crate::hub::Hub;
use crate::metrics::WebhookMetrics;
use crate::services::access::caller::{Caller, Subject};
use crate::services::access::mails::Mails;
use crate::services::error::{Result, ServiceError};
use crate::store::Store;
use crate::store::queries::WebhookDeliveryFilter;

const UNKNOWN: ServiceError = ServiceError::NotFound("delivery");

/// Use cases of webhooks.
#[derive(Clone, Debug)]
pub struct Webhooks {
    pub(in crate::services) store: Store,
    pub(in crate::services) hub: Arc<Hub>,
    pub(in crate::services) clock: Clock,
    pub(in crate::services) secret_box: SecretBox,
    pub(in crate::services) client: WebhookClient,
    /// Upper bound of the first delay between two attempts.
    pub(in crate::services) first_retry: Duration,
    pub(in crate::services) metrics: WebhookMetrics,
    /// For email integrations, and for links to this server.
    pub(in crate::services) mails: Mails,
}

impl Webhooks {
    /// One page of deliveries, newest first.
    pub async fn list(
        &self,
        caller: &Caller,
        filter: WebhookDeliveryFilter,
        page: PageRequest,
    ) -> Result<Page<WebhookDeliveryRecord>> {
        caller.require(Scope::CommandsRead)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let rows = tenant.webhook_deliveries(filter, page).await?;
        Ok(Page::of(rows, page, |row| row.id.0).map(WebhookDeliveryRecord::from))
    }

    /// One delivery, with its newest attempts.
    pub async fn get(
        &self,
        caller: &Caller,
        id: WebhookDeliveryId,
    ) -> Result<WebhookDeliveryRecord> {
        caller.require(Scope::CommandsRead)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        Ok(tenant.webhook_delivery(id).await?.ok_or(UNKNOWN)?.into())
    }

    /// Sends a message again under the same id, now and with retries for another day.
    pub async fn resend(
        &self,
        caller: &Caller,
        id: WebhookDeliveryId,
    ) -> Result<WebhookDeliveryRecord> {
        caller.require(Scope::CommandsRun)?;
        let now = self.clock.now();
        let subject = Subject { kind: "webhook_delivery", id: id.0 };
        let audit = caller.audit("webhook.resend", subject, &json!({}), now);
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let row = tenant.resend_webhook(id, now, now.plus_ms(TRIED_FOR_MS), audit).await?;
        let row = row.ok_or(UNKNOWN)?;
        self.hub.notify_webhook_due();
        Ok(row.into())
    }
}

/// The URL of a webhook.
///
/// # Errors
/// 422 `invalid_webhook` with the reason.
pub fn check_url(text: &str, reach: OutboundReach) -> Result<OutboundUrl> {
    OutboundUrl::parse(text, reach).map_err(|odd| ServiceError::Invalid {
        code: "invalid_webhook",
        detail: format!("the webhook URL {odd}"),
    })
}
