//! `/api/me/identities`

use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::domain::ids::{IdentityId, TenantId};
use crate::domain::time::Timestamp;
use crate::http::AppState;
use crate::http::extract::Id;
use crate::http::problem::{ApiResult, Problem};
use crate::services::access::caller::Caller;

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list_my_identities)).routes(routes!(remove_my_identity))
}

/// A person as a provider of single sign-on knows it.
#[derive(Debug, Serialize, ToSchema)]
struct IdentityView {
    id: IdentityId,
    /// The name of the provider; null if the operator of the server no longer configures it.
    provider: Option<String>,
    /// The address of the provider.
    issuer: String,
    /// What the provider calls the person.
    subject: String,
    created_at: Timestamp,
    /// The tenant in which the person is a member because the provider grants it.
    follows_in: Option<TenantId>,
}

/// The identities of a person, at most 16.
#[derive(Debug, Serialize, ToSchema)]
struct IdentitiesView {
    items: Vec<IdentityView>,
}

/// List the identities at providers of single sign-on that the person signs in with, the oldest first.
#[utoipa::path(get, path = "/api/me/identities", tag = "accounts",
    responses((status = 200, body = IdentitiesView)))]
async fn list_my_identities(
    State(state): State<AppState>,
    caller: Caller,
) -> ApiResult<axum::Json<IdentitiesView>> {
    let listed = state.services.oidc.identities(&caller).await?;
    let items = listed.into_iter().map(|(record, provider)| IdentityView {
        id: record.id,
        provider,
        issuer: record.issuer,
        subject: record.subject,
        created_at: record.created_at,
        follows_in: record.follows_in,
    });
    Ok(axum::Json(IdentitiesView { items: items.collect() }))
}

/// Remove an identity of the person, which signs in with it no longer. The person's other sessions end, and so
/// does a membership that the provider granted. Only for a person who gave the password in the last 15 minutes.
/// The last way to sign in to an account without a password cannot be removed.
#[utoipa::path(delete, path = "/api/me/identities/{id}", tag = "accounts",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn remove_my_identity(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> ApiResult<StatusCode> {
    state.services.oidc.remove_identity(&caller, IdentityId(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}
