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
use crate::services::access::api_keys::NewApiKey;
use crate::services::access::caller::Caller;
use crate::store::queries::RevocationScope;

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(create_api_key, list_api_keys))
        .routes(routes!(revoke_api_key))
}

/// An API key, without its secret.
#[derive(Debug, Serialize, ToSchema)]
struct ApiKeyView {
    id: ApiKeyId,
    name: String,
    /// The first characters of the secret.
    prefix: String,
    role: Role,
    scopes: Vec<String>,
    created_at: Timestamp,
    /// The key or the member that created it; null for the first one.
    created_by: Option<PrincipalId>,
    expires_at: Option<Timestamp>,
}

/// An API key with its secret, which is only shown once.
#[derive(Debug, Serialize, ToSchema)]
struct CreatedApiKeyView {
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
}

impl From<ApiKeyRecord> for ApiKeyView {
    fn from(row: ApiKeyRecord) -> Self {
        Self {
            id: row.id,
            name: row.name,
            prefix: row.prefix,
            role: row.role,
            scopes: row.scopes,
            created_at: row.created_at,
            created_by: row.created_by,
            expires_at: row.expires_at,
        }
    }
}

/// Create an API key. Its secret is only shown in this response.
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
    };
    let made = state.services.api_keys.create(&caller, new).await?;
    let view = CreatedApiKeyView { key: made.secret, view: made.row.into() };
    Ok((StatusCode::CREATED, axum::Json(view)))
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

/// How to revoke an API key.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct RevokeParams {
    /// Also revoke the keys that it created, and those that they created. Default: false.
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
