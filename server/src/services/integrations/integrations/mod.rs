//! Integrations: use cases of the API. The webhooks' delivery sends their messages.

mod request;

use serde_json::{Value, json};
use uuid::Uuid;

pub use self::request::IntegrationRequest;
use super::webhooks::{Outgoing, Webhooks, recorded};
use crate::adapters::webhook_client::WebhookResponse;
use crate::domain::access::principal::Scope;
use crate::domain::ids::{IntegrationId, WebhookDeliveryId};
use crate::domain::integrations::event_type::EventType;
use crate::domain::integrations::formats::EventMessage;
use crate::domain::integrations::integration::IntegrationRecord;
use crate::domain::integrations::records::{WebhookAttempt, WebhookDeliveryRecord};
use crate::domain::integrations::webhook::WebhookDeliveryState;
use crate::domain::integrations::webhook::retry::TRIED_FOR_MS;
use crate::domain::page::{Page, PageRequest};
use crate::domain::secret_box::SecretBox;
use crate::domain::time::Clock;
use crate::services::access::caller::{Caller, Subject};
use crate::services::error::{Result, ServiceError};
use crate::store::entities::integrations::integration;
use crate::store::queries::{IntegrationChange, TOO_MANY_INTEGRATIONS};
use crate::store::{Store, StoreError};

/// Most integrations of a tenant.
const MAX_INTEGRATIONS: u64 = 50;
/// The purpose that sealed settings are bound to.
pub const FIELD: &str = "integrations.sealed";
const UNKNOWN: ServiceError = ServiceError::NotFound("integration");

/// Use cases of integrations.
#[derive(Clone, Debug)]
pub struct Integrations {
    pub(in crate::services) store: Store,
    pub(in crate::services) clock: Clock,
    pub(in crate::services) secret_box: SecretBox,
    pub(in crate::services) webhooks: Webhooks,
}

impl Integrations {
    /// Creates an integration.
    ///
    /// # Errors
    /// 422 names the field; 409 `integration_exists` or `too_many_integrations`.
    pub async fn create(
        &self,
        caller: &Caller,
        request: IntegrationRequest,
    ) -> Result<IntegrationRecord> {
        caller.require(Scope::IntegrationsWrite)?;
        let row = self.new_row(caller, request).await?;
        let audit =
            caller.audit("integration.create", subject(row.id), &detail(&row), row.created_at);
        let tenant = self.store.tenant(row.tenant_id);
        match tenant.create_integration(row.clone(), MAX_INTEGRATIONS, audit).await {
            Err(StoreError::Refused(TOO_MANY_INTEGRATIONS)) => Err(too_many()),
            Err(StoreError::Refused(_)) => Err(name_taken()),
            stored => Ok(stored.map(|()| row.into())?),
        }
    }

    /// One page of integrations, oldest first.
    pub async fn list(
        &self,
        caller: &Caller,
        page: PageRequest,
    ) -> Result<Page<IntegrationRecord>> {
        caller.require(Scope::IntegrationsRead)?;
        let rows = self.store.tenant(caller.principal.tenant_id).integrations(page).await?;
        Ok(Page::of(rows, page, |row| row.id.0).map(IntegrationRecord::from))
    }

    /// One integration.
    pub async fn get(&self, caller: &Caller, id: IntegrationId) -> Result<IntegrationRecord> {
        caller.require(Scope::IntegrationsRead)?;
        Ok(self.find(caller, id).await?.into())
    }

    /// Changes an integration. One that is disabled sends no more: what waits fails, and can be sent
    /// again. Another address or key ends the pause after failures.
    ///
    /// # Errors
    /// As [`Integrations::create`]; 409 `integration_changed`.
    pub async fn update(
        &self,
        caller: &Caller,
        id: IntegrationId,
        request: IntegrationRequest,
    ) -> Result<IntegrationRecord> {
        caller.require(Scope::IntegrationsWrite)?;
        let known = self.find(caller, id).await?;
        let was = known.changed_at;
        let was_enabled = known.is_enabled;
        let now = Ord::max(self.clock.now(), was.plus_ms(1));
        let row = self.changed_row(caller, known, request, now).await?;
        let audit = caller.audit("integration.update", subject(id), &detail(&row), now);
        let change = IntegrationChange {
            ends_messages: was_enabled && !row.is_enabled,
            row: row.clone(),
            was,
        };
        let tenant = self.store.tenant(row.tenant_id);
        match tenant.change_integration(change, audit).await {
            Err(StoreError::Refused(_)) => Err(name_taken()),
            Ok(false) => Err(ServiceError::Conflict {
                code: "integration_changed",
                detail: "the integration was changed meanwhile; read it again".into(),
            }),
            changed => Ok(changed.map(|_| row.into())?),
        }
    }

    /// Deletes an integration with its messages.
    pub async fn delete(&self, caller: &Caller, id: IntegrationId) -> Result<()> {
        caller.require(Scope::IntegrationsWrite)?;
        let audit = caller.audit("integration.delete", subject(id), &json!({}), self.clock.now());
        let tenant = self.store.tenant(caller.principal.tenant_id);
        match tenant.delete_integration(id, audit).await? {
            true => Ok(()),
            false => Err(UNKNOWN),
        }
    }

    /// Sends a test message at once, past the queue, and returns how the receiver answered.
    pub async fn test(&self, caller: &Caller, id: IntegrationId) -> Result<WebhookAttempt> {
        caller.require(Scope::IntegrationsWrite)?;
        let row = self.find(caller, id).await?;
        let at = self.clock.now();
        let audit = caller.audit("integration.test", subject(id), &json!({"host": row.host}), at);
        self.store.writer().commit(crate::store::writer::AppendAudit(audit)).await?;
        let head = (Uuid::now_v7().to_string(), EventType::IntegrationTest, at, id.0);
        let data = json!({"integration_id": id, "integration_name": row.name});
        let message = EventMessage::new(head, data, &[], 0, None);
        let response = match self.webhooks.compose(&row, message, at, Vec::new()).await {
            Ok(Outgoing::Posts { messages, .. }) => self.webhooks.send_all(messages).await,
            Ok(Outgoing::Mails { mails, .. }) => self.webhooks.hand_over(mails).await?,
            Ok(Outgoing::NotWanted) => WebhookResponse::failed("nothing was sent".to_owned()),
            Err(ServiceError::Store(error)) => return Err(error.into()),
            Err(error) => WebhookResponse::failed(error.to_string()),
        };
        Ok(recorded(at, response))
    }

    /// One page of messages, newest first.
    pub async fn messages(
        &self,
        caller: &Caller,
        id: IntegrationId,
        state: Option<WebhookDeliveryState>,
        page: PageRequest,
    ) -> Result<Page<WebhookDeliveryRecord>> {
        caller.require(Scope::IntegrationsRead)?;
        self.find(caller, id).await?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let rows = tenant.integration_messages(id, state, page).await?;
        Ok(Page::of(rows, page, |row| row.id.0).map(WebhookDeliveryRecord::from))
    }

    /// Queues a message again under the same id, with retries for another day.
    ///
    /// # Errors
    /// 404; 409 `integration_disabled`.
    pub async fn resend(
        &self,
        caller: &Caller,
        id: IntegrationId,
        message_id: WebhookDeliveryId,
    ) -> Result<WebhookDeliveryRecord> {
        caller.require(Scope::IntegrationsWrite)?;
        if !self.find(caller, id).await?.is_enabled {
            return Err(ServiceError::Conflict {
                code: "integration_disabled",
                detail: "the integration is disabled; enable it first".into(),
            });
        }
        let now = self.clock.now();
        let detail = json!({"delivery_id": message_id});
        let audit = caller.audit("integration.resend", subject(id), &detail, now);
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let give_up_at = now.plus_ms(TRIED_FOR_MS);
        let row = tenant.resend_message((id, message_id), now, give_up_at, audit).await?;
        let row = row.ok_or(ServiceError::NotFound("delivery"))?;
        self.webhooks.hub.notify_webhook_due();
        Ok(row.into())
    }

    async fn find(&self, caller: &Caller, id: IntegrationId) -> Result<integration::Model> {
        let tenant = self.store.tenant(caller.principal.tenant_id);
        tenant.integration(id).await?.ok_or(UNKNOWN)
    }
}

fn subject(id: IntegrationId) -> Subject {
    Subject { kind: "integration", id: id.0 }
}

/// What an audit entry records: no address and no key.
fn detail(row: &integration::Model) -> Value {
    json!({"name": row.name, "kind": row.kind, "host": row.host, "is_enabled": row.is_enabled,
        "event_types": row.event_types.0})
}

fn name_taken() -> ServiceError {
    ServiceError::Conflict {
        code: "integration_exists",
        detail: "an integration has this name already".into(),
    }
}

fn too_many() -> ServiceError {
    ServiceError::Conflict {
        code: "too_many_integrations",
        detail: format!("a tenant has at most {MAX_INTEGRATIONS} integrations; delete one first"),
    }
}
