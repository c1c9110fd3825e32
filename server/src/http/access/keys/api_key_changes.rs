//! `/api/keys/{id}`: changes and rotations.

use axum::extract::State;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::api_keys::{ApiKeyView, CreatedApiKeyView};
use crate::domain::access::principal::{Role, Scope};
use crate::domain::ids::ApiKeyId;
use crate::domain::time::Timestamp;
use crate::http::AppState;
use crate::http::extract::{Body, Id};
use crate::http::problem::{ApiResult, Problem};
use crate::services::access::caller::Caller;
use crate::services::access::keys::api_key_changes::RequestedChange;

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(update_api_key))
        .routes(routes!(rotate_api_key))
        .routes(routes!(end_previous_api_secret))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UpdateApiKey {
    name: Option<String>,
    /// Scopes that the new role does not have are removed.
    role: Option<Role>,
    #[schema(value_type = Option<Vec<String>>)]
    scopes: Option<Vec<Scope>>,
    /// `null` removes the expiry, if the key that created this one has none.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Timestamp>)]
    expires_at: Option<Option<Timestamp>>,
    /// Replaces the target. Those of the key that created this one and of the caller's key apply in
    /// addition, also after `null`.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    target: Option<Option<String>>,
    /// `null`: those of the key that created this one.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Vec<String>>)]
    scripts: Option<Option<Vec<String>>>,
    /// `null`: as for the key that created this one.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<u32>)]
    max_fan_out: Option<Option<u32>>,
}

/// Distinguishes `null` from a missing field.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// A changed API key.
#[derive(Debug, Serialize, ToSchema)]
struct UpdatedApiKeyView {
    #[serde(flatten)]
    view: ApiKeyView,
    /// Keys that this one created, directly or through others, and that have fewer rights now, because
    /// no key has more than the key that created it.
    narrowed_keys: Vec<ApiKeyId>,
}

/// Change the rights of an API key. Its secret stays the same.
///
/// A key changes only keys that it could have created. The change takes effect at once, also for open
/// streams and for work that is queued: what the key could not submit any more is not sent. To widen a key,
/// a person must have given the password in the last 15 minutes.
#[utoipa::path(patch, path = "/api/keys/{id}", tag = "API keys",
    params(("id" = uuid::Uuid, Path)), request_body = UpdateApiKey,
    responses((status = 200, body = UpdatedApiKeyView), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn update_api_key(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Body(body): Body<UpdateApiKey>,
) -> ApiResult<axum::Json<UpdatedApiKeyView>> {
    let change = RequestedChange {
        name: body.name,
        role: body.role,
        scopes: body.scopes,
        expires_at: body.expires_at,
        target: body.target,
        scripts: body.scripts,
        max_fan_out: body.max_fan_out,
    };
    let changed = state.services.api_keys.update(&caller, ApiKeyId(id), change).await?;
    let (view, narrowed_keys) = (changed.row.into(), changed.narrowed);
    Ok(axum::Json(UpdatedApiKeyView { view, narrowed_keys }))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RotateApiKey {
    /// How long the old secret stays valid beside the new one, at most seven days. With 0 it becomes
    /// invalid at once. Default: 0.
    #[serde(default)]
    grace_ms: u64,
}

/// Replace the secret of an API key. The new one is only shown in this response.
///
/// The key stays the same: its id, its rights, and what it queued. Revoking it ends both secrets. A secret
/// that is still valid from an earlier rotation ends now. A person must have given the password in the last
/// 15 minutes.
#[utoipa::path(post, path = "/api/keys/{id}/rotate", tag = "API keys",
    params(("id" = uuid::Uuid, Path)), request_body = RotateApiKey,
    responses((status = 200, body = CreatedApiKeyView), (status = 403, body = Problem), (status = 404, body = Problem), (status = 422, body = Problem)))]
async fn rotate_api_key(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Body(body): Body<RotateApiKey>,
) -> ApiResult<axum::Json<CreatedApiKeyView>> {
    let made = state.services.api_keys.rotate(&caller, ApiKeyId(id), body.grace_ms).await?;
    Ok(axum::Json(made.into()))
}

/// End the secret before the last rotation at once. Repeatable.
#[utoipa::path(delete, path = "/api/keys/{id}/previous-secret", tag = "API keys",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = ApiKeyView), (status = 403, body = Problem), (status = 404, body = Problem)))]
async fn end_previous_api_secret(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> ApiResult<axum::Json<ApiKeyView>> {
    let row = state.services.api_keys.end_previous_secret(&caller, ApiKeyId(id)).await?;
    Ok(axum::Json(row.into()))
}
