//! `/api/keys`

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::domain::access::principal::{Role, Scope};
use crate::domain::access::records::ApiKeyRecord;
use crate::domain::ids::{ApiKeyId, GroupId, JobId, PrincipalId};
use crate::domain::time::Timestamp;
use crate::http::AppState;
use crate::http::extract::{Body, Id, PageParams, Params};
use crate::http::problem::{ApiResult, Problem};
use crate::http::views::PageView;
use crate::services::access::caller::Caller;
use crate::services::access::keys::api_keys::{MadeApiKey, NewApiKey};
use crate::services::access::keys::requested_limits::RequestedLimits;
use crate::store::queries::RevocationScope;

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(create_api_key, list_api_keys))
        .routes(routes!(get_api_key, revoke_api_key))
}

/// An API key, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ApiKeyView {
    id: ApiKeyId,
    name: String,
    /// The first characters of the secret.
    prefix: String,
    role: Role,
    scopes: Vec<String>,
    /// It starts work only on agents that this expression matches; null without such a limit.
    target: Option<String>,
    /// The only scripts that it runs; null without such a limit.
    scripts: Option<Vec<String>>,
    /// Most agents of one request; null without such a limit.
    max_fan_out: Option<u32>,
    created_at: Timestamp,
    /// The key or the member that created it; null for the first one.
    created_by: Option<PrincipalId>,
    /// Its current name; null in the answer to a change.
    created_by_name: Option<String>,
    expires_at: Option<Timestamp>,
    /// When one of its secrets was last used; null if never.
    last_used_at: Option<Timestamp>,
    /// Who rotated it last; null if it was never rotated.
    rotated_by: Option<PrincipalId>,
    /// The secret before the last rotation, while it is still valid.
    previous_secret: Option<PreviousSecretView>,
}

/// A replaced secret that is still valid.
#[derive(Debug, Serialize, ToSchema)]
struct PreviousSecretView {
    /// The first characters.
    prefix: String,
    valid_until: Timestamp,
    /// When it was last used; null if never.
    last_used_at: Option<Timestamp>,
}

/// An API key with its secret, which is only shown once.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CreatedApiKeyView {
    /// The secret, `mst_live_…`. It can't be shown again.
    key: String,
    #[serde(flatten)]
    view: ApiKeyView,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateApiKey {
    name: String,
    /// Default: `member`.
    role: Option<Role>,
    /// Default: all scopes of the role, except `metrics:read`, `releases:manage` and `tenants:manage`,
    /// which are rights over the whole server. A key can't have scopes that its role or the caller does
    /// not have.
    #[schema(value_type = Option<Vec<String>>)]
    scopes: Option<Vec<Scope>>,
    /// Default: when the caller's key expires. A key can't outlive the key that created it.
    expires_at: Option<Timestamp>,
    /// Lets the key start work only on agents that this expression of `tag:` and `id:` matches, when the
    /// work is submitted and when it is sent. The target of the caller's key applies in addition.
    target: Option<String>,
    /// Lets the key run only these scripts, and no ad-hoc or life-cycle commands. Default: those of
    /// the caller's key.
    scripts: Option<Vec<String>>,
    /// Most agents that the key may reach with one request. Default: as for the caller's key.
    max_fan_out: Option<u32>,
}

impl From<ApiKeyRecord> for ApiKeyView {
    fn from(row: ApiKeyRecord) -> Self {
        Self {
            id: row.id,
            name: row.name,
            prefix: row.prefix,
            role: row.role,
            scopes: row.scopes,
            target: row.limits.target(),
            scripts: row.limits.scripts.map(|scripts| scripts.into_iter().collect()),
            max_fan_out: row.limits.max_fan_out,
            created_at: row.created_at,
            created_by: row.created_by,
            created_by_name: row.created_by_name,
            expires_at: row.expires_at,
            last_used_at: row.last_used_at,
            rotated_by: row.rotated_by,
            previous_secret: row.previous_secret.map(|secret| PreviousSecretView {
                prefix: secret.prefix,
                valid_until: secret.valid_until,
                last_used_at: secret.last_used_at,
            }),
        }
    }
}

impl From<MadeApiKey> for CreatedApiKeyView {
    fn from(made: MadeApiKey) -> Self {
        Self { key: made.secret, view: made.row.into() }
    }
}

/// Create an API key. Its secret is only shown in this response. A person must have given the password in
/// the last 15 minutes.
#[utoipa::path(post, path = "/api/keys", tag = "API keys", request_body = CreateApiKey,
    responses((status = 201, body = CreatedApiKeyView), (status = 403, body = Problem), (status = 422, body = Problem)))]
async fn create_api_key(
    State(state): State<AppState>,
    caller: Caller,
    Body(body): Body<CreateApiKey>,
) -> ApiResult<(StatusCode, axum::Json<CreatedApiKeyView>)> {
    let new = NewApiKey {
        name: body.name,
        role: body.role.unwrap_or(Role::Member),
        scopes: body.scopes,
        expires_at: body.expires_at,
        limits: RequestedLimits {
            target: body.target,
            scripts: body.scripts,
            max_fan_out: body.max_fan_out,
        },
    };
    let made = state.services.api_keys.create(&caller, new).await?;
    Ok((StatusCode::CREATED, axum::Json(made.into())))
}

/// List API keys that are not revoked, oldest first.
#[utoipa::path(get, path = "/api/keys", tag = "API keys", params(PageParams),
    responses((status = 200, body = PageView<ApiKeyView>)))]
async fn list_api_keys(
    State(state): State<AppState>,
    caller: Caller,
    Params(params): Params<PageParams>,
) -> ApiResult<axum::Json<PageView<ApiKeyView>>> {
    let page = state.services.api_keys.list(&caller, params.read()?).await?;
    Ok(axum::Json(page.map(ApiKeyView::from).into()))
}

/// Get an API key that is not revoked.
#[utoipa::path(get, path = "/api/keys/{id}", tag = "API keys",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = ApiKeyView), (status = 404, body = Problem)))]
async fn get_api_key(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> ApiResult<axum::Json<ApiKeyView>> {
    let row = state.services.api_keys.get(&caller, ApiKeyId(id)).await?;
    Ok(axum::Json(row.into()))
}

/// How to revoke an API key.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct RevokeParams {
    /// Also revoke the keys that it created, and those that they created, and end every secret that its
    /// holder knows. Default: false.
    #[serde(default)]
    cascade: bool,
    /// What happens at once to what the revoked keys queued. `keep` (default): nothing; it is never
    /// sent, and ends as `rejected` with the code `api_key_invalid` when it would be sent. `cancel`:
    /// queued commands are cancelled, rollouts and groups are paused.
    #[serde(default)]
    #[param(inline)]
    queued: Queued,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Queued {
    #[default]
    Keep,
    Cancel,
}

/// What a revocation changed.
#[derive(Debug, Serialize, ToSchema)]
struct RevocationView {
    revoked_keys: Vec<ApiKeyId>,
    /// Queued commands that were cancelled.
    cancelled_commands: usize,
    /// Jobs whose rollouts were paused. Another key can resume them.
    paused_jobs: Vec<JobId>,
    /// Groups that were paused. Another key can resume them.
    paused_groups: Vec<GroupId>,
}

/// Revoke an API key. It is invalid as soon as this request returns.
///
/// Work that the key queued is not sent any more, and its rollouts and groups halt before their next
/// wave. A key revokes only keys that it could have created.
#[utoipa::path(delete, path = "/api/keys/{id}", tag = "API keys",
    params(("id" = uuid::Uuid, Path), RevokeParams),
    responses((status = 200, body = RevocationView), (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn revoke_api_key(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Params(params): Params<RevokeParams>,
) -> ApiResult<axum::Json<RevocationView>> {
    let scope = RevocationScope {
        is_cascade: params.cascade,
        cancels_queued: params.queued == Queued::Cancel,
    };
    let revocation = state.services.api_keys.revoke(&caller, ApiKeyId(id), scope).await?;
    Ok(axum::Json(RevocationView {
        revoked_keys: revocation.keys,
        cancelled_commands: revocation.cancelled.len(),
        paused_jobs: revocation.paused_jobs,
        paused_groups: revocation.paused_groups,
    }))
}
