//! Bodies and views of hooks.

use muster_protocol::object::Object;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::views::ScheduledJob;
use crate::domain::ids::{HookDeliveryId, HookId, JobId, PrincipalId};
use crate::domain::schedules::hook::template::Fields;
use crate::domain::schedules::hook::{HookAuthentication, HookDeliveryRecord, HookDeliveryState};
use crate::domain::time::Timestamp;
use crate::http::views::stored_json;
use crate::services::schedules::hooks::{
    Delivered, HookRequest, HookSnapshot, HookWithSecret, TestedHook,
};

/// Changes to a hook. Missing fields keep their values.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HookBody {
    name: Option<String>,
    /// How senders prove that they know the secret: `signature` (Standard Webhooks: HMAC-SHA256 over id,
    /// time stamp and body), `github` (`X-Hub-Signature-256`) or `bearer` (the secret as bearer token).
    authentication: Option<HookAuthentication>,
    /// The job that each delivery submits.
    #[schema(value_type = Option<ScheduledJob>)]
    job: Option<Object<ScheduledJob>>,
    /// Fields of the body that become parameters of the job: JSON pointers by the name of the parameter.
    /// Each must be there as a text, a number or a boolean. No other field is used.
    #[schema(value_type = Option<Object>, example = json!({"REF": "/ref"}))]
    parameters: Option<Fields>,
    /// Values that the body must have: texts by JSON pointer. Other deliveries are ignored.
    #[schema(value_type = Option<Object>, example = json!({"/ref": "refs/heads/main"}))]
    conditions: Option<Fields>,
    /// How far the time stamp of a `signature` may be off, in both directions: 1 s to 1 h, default 5 minutes.
    replay_window_ms: Option<u64>,
    /// Default true.
    enabled: Option<bool>,
}

/// A body for a test.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TestHookBody {
    /// As a sender would send it; default `{}`.
    #[serde(default = "empty")]
    pub body: Value,
    /// Submit no job, and only show its parameters.
    #[serde(default)]
    pub dry_run: bool,
}

fn empty() -> Value {
    Value::Object(serde_json::Map::new())
}

/// An inbound hook.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HookView {
    id: HookId,
    name: String,
    /// Where deliveries are sent to, on this server.
    #[schema(example = "/hooks/0198e0a4-0000-7000-8000-000000000000")]
    path: String,
    authentication: HookAuthentication,
    #[schema(value_type = ScheduledJob)]
    job: Value,
    /// JSON pointers by the name of the parameter.
    #[schema(value_type = Object)]
    parameters: Value,
    /// Expected texts by JSON pointer.
    #[schema(value_type = Object)]
    conditions: Value,
    replay_window_ms: i64,
    enabled: bool,
    /// With whose rights its jobs run: who created it, or changed more than its name last.
    owner_id: PrincipalId,
    /// Current name of the owner; `null` in the answer to a change.
    owner_name: Option<String>,
    created_by: PrincipalId,
    created_at: Timestamp,
    changed_at: Timestamp,
}

/// A hook with its secret. Without `Debug`, because it holds a secret.
#[derive(Serialize, ToSchema)]
pub(super) struct NewHookView {
    #[serde(flatten)]
    hook: HookView,
    /// The secret: `whsec_` and base64. It is not shown again.
    secret: String,
}

/// A delivery to a hook.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HookDeliveryView {
    id: HookDeliveryId,
    /// By what a repeated delivery is known: its id, or the signature of GitHub.
    delivery_key: Option<String>,
    /// A person tested the hook.
    is_test: bool,
    state: HookDeliveryState,
    /// Why it has no job.
    detail: Option<String>,
    job_id: Option<JobId>,
    /// The address that it came from.
    source: Option<String>,
    received_at: Timestamp,
}

/// What the sender of a delivery gets.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeliveredView {
    delivery_id: HookDeliveryId,
    state: HookDeliveryState,
    job_id: Option<JobId>,
    /// The same delivery came before, and has this job.
    is_repeated: bool,
}

/// What a delivery with this body does.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TestedHookView {
    /// `null` after a dry run.
    delivery: Option<HookDeliveryView>,
    /// The parameters of the job; `null` if the hook ignores the body.
    #[schema(value_type = Option<Object>)]
    parameters: Option<Value>,
    /// Why the hook ignores the body.
    ignored: Option<String>,
}

impl From<HookBody> for HookRequest {
    fn from(body: HookBody) -> Self {
        Self {
            name: body.name,
            authentication: body.authentication,
            job: body.job.map(|job| job.0.into()),
            parameters: body.parameters,
            conditions: body.conditions,
            replay_window_ms: body.replay_window_ms,
            is_enabled: body.enabled,
        }
    }
}

impl From<HookSnapshot> for HookView {
    fn from(hook: HookSnapshot) -> Self {
        let HookSnapshot { row, owner_name } = hook;
        Self {
            id: row.id,
            name: row.name,
            path: format!("/hooks/{}", row.id),
            authentication: row.authentication,
            job: stored_json(&row.job),
            parameters: stored_json(&row.parameters),
            conditions: stored_json(&row.conditions),
            replay_window_ms: row.replay_window_ms,
            enabled: row.is_enabled,
            owner_id: row.owner_id,
            owner_name,
            created_by: row.created_by,
            created_at: row.created_at,
            changed_at: row.changed_at,
        }
    }
}

impl From<HookWithSecret> for NewHookView {
    fn from(new: HookWithSecret) -> Self {
        Self { hook: new.hook.into(), secret: new.secret.to_string() }
    }
}

impl From<HookDeliveryRecord> for HookDeliveryView {
    fn from(delivery: HookDeliveryRecord) -> Self {
        Self {
            id: delivery.id,
            delivery_key: delivery.delivery_key,
            is_test: delivery.is_test,
            state: delivery.state,
            detail: delivery.detail,
            job_id: delivery.job_id,
            source: delivery.source,
            received_at: delivery.received_at,
        }
    }
}

impl From<Delivered> for DeliveredView {
    fn from(delivered: Delivered) -> Self {
        Self {
            delivery_id: delivered.delivery.id,
            state: delivered.delivery.state,
            job_id: delivered.delivery.job_id,
            is_repeated: delivered.is_repeated,
        }
    }
}

impl From<TestedHook> for TestedHookView {
    fn from(tested: TestedHook) -> Self {
        Self {
            delivery: tested.delivery.map(HookDeliveryView::from),
            parameters: tested.parameters,
            ignored: tested.unfulfilled,
        }
    }
}
