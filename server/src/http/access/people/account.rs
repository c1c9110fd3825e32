//! `/api/me`

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use zeroize::Zeroizing;

use super::setup::MemberView;
use crate::domain::access::principal::{ActorKind, Role};
use crate::domain::access::records::UserSessionRecord;
use crate::domain::ids::{MemberId, PrincipalId, SessionId, TenantId};
use crate::domain::time::Timestamp;
use crate::http::AppState;
use crate::http::extract::{Body, Id};
use crate::http::problem::{ApiResult, Problem};
use crate::services::access::caller::Caller;
use crate::services::access::people::account::OwnAccount;

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(get_me))
        .routes(routes!(list_my_sessions))
        .routes(routes!(end_my_session))
        .routes(routes!(change_password))
}

/// Who sends the request.
#[derive(Debug, Serialize, ToSchema)]
struct MyselfView {
    kind: ActorKind,
    /// An API key or a member, by `kind`.
    id: PrincipalId,
    name: String,
    tenant_id: TenantId,
    tenant_name: String,
    role: Role,
    scopes: Vec<String>,
    /// When the API key or the access token expires.
    expires_at: Option<Timestamp>,
    /// Of a person.
    session: Option<UserSessionView>,
    /// What a person is in each of its tenants, the first first.
    memberships: Vec<MemberView>,
}

/// A session of a person.
#[derive(Debug, Serialize, ToSchema)]
struct UserSessionView {
    id: SessionId,
    /// The person in the tenant that the session is for.
    member_id: MemberId,
    tenant_id: TenantId,
    /// Whether it is the session of this request.
    is_current: bool,
    created_at: Timestamp,
    refreshed_at: Timestamp,
    expires_at: Timestamp,
    /// When the person last gave the password; null if it did not give it in this session.
    confirmed_at: Option<Timestamp>,
    /// The client's address when it signed in.
    source: Option<String>,
}

/// The sessions of a person, at most 32 for each tenant.
#[derive(Debug, Serialize, ToSchema)]
struct UserSessionsView {
    items: Vec<UserSessionView>,
}

// Without `Debug`, because it holds secrets.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangePassword {
    current_password: String,
    /// At least 12 characters and at most 256 bytes, and not one of the passwords that attackers try
    /// first.
    new_password: String,
    /// Remove the identities of the person, which then signs in with no provider of single sign-on. Default:
    /// they stay.
    #[serde(default)]
    remove_identities: bool,
}

fn session_view(caller: &Caller, row: UserSessionRecord) -> UserSessionView {
    UserSessionView {
        id: row.id,
        member_id: row.member_id,
        tenant_id: row.tenant_id,
        is_current: caller.principal.session_id() == Some(row.id),
        created_at: row.created_at,
        refreshed_at: row.refreshed_at,
        expires_at: row.expires_at,
        confirmed_at: (row.confirmed_at > Timestamp(0)).then_some(row.confirmed_at),
        source: row.source,
    }
}

/// Show who sends the request: an API key, or a person with its session and its tenants.
#[utoipa::path(get, path = "/api/me", tag = "accounts", responses((status = 200, body = MyselfView)))]
async fn get_me(
    State(state): State<AppState>,
    caller: Caller,
) -> ApiResult<axum::Json<MyselfView>> {
    let myself = OwnAccount(&state.services.sign_in).myself(&caller).await?;
    let principal = &caller.principal;
    Ok(axum::Json(MyselfView {
        kind: principal.actor_kind(),
        id: principal.id,
        name: principal.name.clone(),
        tenant_id: principal.tenant_id,
        tenant_name: myself.tenant_name,
        role: principal.role,
        scopes: principal.scopes.iter().map(ToString::to_string).collect(),
        expires_at: principal.expires_at,
        session: myself.session.map(|row| session_view(&caller, row)),
        memberships: myself.memberships.into_iter().map(MemberView::from).collect(),
    }))
}

/// List where the person is signed in, in all of its tenants, the newest first.
#[utoipa::path(get, path = "/api/me/sessions", tag = "accounts",
    responses((status = 200, body = UserSessionsView)))]
async fn list_my_sessions(
    State(state): State<AppState>,
    caller: Caller,
) -> ApiResult<axum::Json<UserSessionsView>> {
    let rows = OwnAccount(&state.services.sign_in).sessions(&caller).await?;
    let items = rows.into_iter().map(|row| session_view(&caller, row)).collect();
    Ok(axum::Json(UserSessionsView { items }))
}

/// End one of the person's sessions. Its tokens are invalid as soon as this request returns.
#[utoipa::path(delete, path = "/api/me/sessions/{id}", tag = "accounts",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 204), (status = 404, body = Problem)))]
async fn end_my_session(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> ApiResult<StatusCode> {
    OwnAccount(&state.services.sign_in).end_session(&caller, SessionId(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Change the password of the person. Its other sessions end, and so do the API keys that were created and
/// the secrets that were rotated in them.
#[utoipa::path(post, path = "/api/me/password", tag = "accounts", request_body = ChangePassword,
    responses((status = 204)))]
async fn change_password(
    State(state): State<AppState>,
    caller: Caller,
    Body(body): Body<ChangePassword>,
) -> ApiResult<StatusCode> {
    let (current, new) = (Zeroizing::new(body.current_password), Zeroizing::new(body.new_password));
    OwnAccount(&state.services.sign_in)
        .change_password(&caller, current, new, body.remove_identities)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
