//! Bodies and views of integrations.

use muster_protocol::object::Object;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::domain::access::principal::Scope;
use crate::domain::fleet::target::TargetSpec;
use crate::domain::ids::{IntegrationId, JobId, PrincipalId, WebhookDeliveryId};
use crate::domain::integrations::event_type::EventType;
use crate::domain::integrations::integration::{
    IntegrationKind, IntegrationRecord, IntegrationSettings,
};
use crate::domain::integrations::records::{WebhookAttempt, WebhookDeliveryRecord};
use crate::domain::integrations::webhook::WebhookDeliveryState;
use crate::domain::time::Timestamp;
use crate::services::access::caller::Caller;
use crate::services::integrations::integrations::IntegrationRequest;

/// Changes to an integration. Missing fields keep their values.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct IntegrationBody {
    /// Only when it is created.
    kind: Option<IntegrationKind>,
    name: Option<String>,
    #[schema(value_type = Option<IntegrationSettings>)]
    settings: Option<Object<IntegrationSettings>>,
    /// The types of events that it sends: at least one.
    event_types: Option<Vec<EventType>>,
    /// Only events of agents that this target matches; `null` removes it. Events without agents are
    /// always sent.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<TargetSpec>)]
    target: Option<Option<Object<TargetSpec>>>,
    /// The text of a message, in the syntax of Jinja: at most 4,096 bytes; `null` removes it. It may name
    /// `type`, `title`, `timestamp`, `link` and `data`. Not for webhooks.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    template: Option<Option<String>>,
    /// Default: true.
    is_enabled: Option<bool>,
    /// How long an agent is disconnected before `agent.offline`: at most 24 h, default 60 s.
    offline_after_ms: Option<u64>,
}

/// An integration.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct IntegrationView {
    id: IntegrationId,
    kind: IntegrationKind,
    name: String,
    /// Where it sends: a host, or `mail`.
    host: String,
    /// Settings that are no secrets. Callers who may only read do not see mail addresses.
    settings: IntegrationSettings,
    event_types: Vec<EventType>,
    target: Option<TargetSpec>,
    template: Option<String>,
    is_enabled: bool,
    offline_after_ms: i64,
    /// Since when no message arrives; `null` while the last one did. Meanwhile one message is tried at a
    /// time, and the others wait.
    failing_since: Option<Timestamp>,
    /// When it is tried next.
    retry_at: Option<Timestamp>,
    last_error: Option<String>,
    created_by: PrincipalId,
    created_at: Timestamp,
    changed_at: Timestamp,
}

/// A delivery of an integration: one message and its state.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct IntegrationDeliveryView {
    /// The same for every attempt. A webhook has it as `webhook-id`.
    id: WebhookDeliveryId,
    event: String,
    /// The job that the event is about, if any.
    job_id: Option<JobId>,
    state: WebhookDeliveryState,
    attempt_count: i32,
    /// Further events that this message reports.
    repeat_count: i32,
    created_at: Timestamp,
    /// When the next attempt is made; `null` unless it is the next of its integration.
    due_at: Option<Timestamp>,
    /// No attempt is made after this time.
    give_up_at: Timestamp,
    finished_at: Option<Timestamp>,
    /// The newest attempt, if there is one.
    last_attempt: Option<WebhookAttempt>,
}

/// Distinguishes `null` from a missing field.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl From<IntegrationBody> for IntegrationRequest {
    fn from(body: IntegrationBody) -> Self {
        Self {
            kind: body.kind,
            name: body.name,
            settings: body.settings.map(|settings| settings.0),
            event_types: body.event_types,
            target: body.target.map(|target| target.map(|target| target.0)),
            template: body.template,
            is_enabled: body.is_enabled,
            offline_after_ms: body.offline_after_ms,
        }
    }
}

impl IntegrationView {
    /// The integration as this caller may see it.
    pub fn new(row: IntegrationRecord, caller: &Caller) -> Self {
        let mut settings = row.shown;
        if !caller.principal.may(Scope::IntegrationsWrite) {
            settings.to = None;
        }
        Self {
            id: row.id,
            kind: row.kind,
            name: row.name,
            host: row.host,
            settings,
            event_types: row.event_types,
            target: row.target,
            template: row.template,
            is_enabled: row.is_enabled,
            offline_after_ms: row.offline_after_ms,
            failing_since: row.failing_since,
            retry_at: row.retry_at,
            last_error: row.last_error,
            created_by: row.created_by,
            created_at: row.created_at,
            changed_at: row.changed_at,
        }
    }
}

impl From<WebhookDeliveryRecord> for IntegrationDeliveryView {
    fn from(mut row: WebhookDeliveryRecord) -> Self {
        Self {
            id: row.id,
            event: row.event,
            job_id: row.job_id,
            state: row.state,
            attempt_count: row.attempt_count,
            repeat_count: row.repeat_count,
            created_at: row.created_at,
            due_at: (row.state == WebhookDeliveryState::Pending).then_some(row.due_at),
            give_up_at: row.give_up_at,
            finished_at: row.finished_at,
            last_attempt: row.attempts.pop(),
        }
    }
}
