//! Inbound hooks: how a delivery proves who sent it, and which parameters its body gives. Pure.

pub mod proof;
pub mod template;

use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr};

use crate::domain::ids::{HookDeliveryId, HookId, JobId, PrincipalId, TenantId};
use crate::domain::time::Timestamp;

/// How the sender of a delivery proves that it knows the secret.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    EnumIter,
    EnumString,
    IntoStaticStr,
    utoipa::ToSchema,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum HookAuthentication {
    /// Standard Webhooks: HMAC-SHA256 over id, time stamp and body.
    Signature,
    /// `X-Hub-Signature-256`: HMAC-SHA256 over the body.
    Github,
    /// `Authorization: Bearer` with the secret itself.
    Bearer,
}

/// What a delivery led to.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    EnumIter,
    EnumString,
    IntoStaticStr,
    utoipa::ToSchema,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum HookDeliveryState {
    /// Its job was not submitted yet: it is under way, or the server stopped.
    Received,
    /// Its job was created.
    Started,
    /// It does not fulfil the conditions of the hook, or is a `ping`.
    Ignored,
    /// It has no job; the detail says why.
    Refused,
}

/// A hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookRecord {
    pub id: HookId,
    pub tenant_id: TenantId,
    pub name: String,
    pub authentication: HookAuthentication,
    /// A `JobTemplate`, JSON.
    pub job: String,
    /// JSON pointers by the name of the parameter, JSON.
    pub parameters: String,
    /// Expected texts by JSON pointer, JSON.
    pub conditions: String,
    pub replay_window_ms: i64,
    pub is_enabled: bool,
    /// With whose rights its jobs run: who created or changed it last.
    pub owner_id: PrincipalId,
    pub created_by: PrincipalId,
    pub created_at: Timestamp,
    pub changed_at: Timestamp,
}

/// A delivery to a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookDeliveryRecord {
    pub id: HookDeliveryId,
    pub hook_id: HookId,
    /// What makes a repeated delivery the same; `None` if its sender gave nothing.
    pub delivery_key: Option<String>,
    pub is_test: bool,
    pub state: HookDeliveryState,
    pub detail: Option<String>,
    pub job_id: Option<JobId>,
    /// The address that it came from.
    pub source: Option<String>,
    pub received_at: Timestamp,
}
