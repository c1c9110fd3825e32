//! The deletion of tenants, and its withdrawal

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::administration::TenantDetailsView;
use crate::domain::ids::TenantId;
use crate::http::AppState;
use crate::http::extract::{Body, Empty, Id};
use crate::http::problem::{ApiResult, Problem};
use crate::services::access::caller::Caller;

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(delete_own_tenant))
        .routes(routes!(restore_own_tenant))
        .routes(routes!(delete_tenant))
        .routes(routes!(restore_tenant))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DeleteTenant {
    /// The name of the tenant, as a person typed it.
    name: String,
}

/// Delete the tenant of the caller and everything of it, 7 days from now.
///
/// Until then its keys are refused with `tenant_closed`, its agents are disconnected, nothing of it
/// starts, and an owner can restore it.
#[utoipa::path(delete, path = "/api/tenant", tag = "tenants", request_body = DeleteTenant,
    responses((status = 202, body = TenantDetailsView), (status = 400, body = Problem), (status = 409, body = Problem),
        (status = 413, body = Problem), (status = 415, body = Problem), (status = 422, body = Problem)))]
async fn delete_own_tenant(
    State(state): State<AppState>,
    caller: Caller,
    Body(body): Body<DeleteTenant>,
) -> ApiResult<(StatusCode, axum::Json<TenantDetailsView>)> {
    let closed = state.services.tenant_deletion.request_own(&caller, &body.name).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(closed.into())))
}

/// Restore the tenant of the caller, whose deletion was requested and has not begun.
#[utoipa::path(post, path = "/api/tenant/restore", tag = "tenants",
    responses((status = 200, body = TenantDetailsView), (status = 404, body = Problem)))]
async fn restore_own_tenant(
    State(state): State<AppState>,
    caller: Caller,
    Body(Empty {}): Body<Empty>,
) -> ApiResult<axum::Json<TenantDetailsView>> {
    Ok(axum::Json(state.services.tenant_deletion.restore_own(&caller).await?.into()))
}

/// Delete a tenant and everything of it, 7 days from now. For the operator of the server.
#[utoipa::path(delete, path = "/api/tenants/{id}", tag = "tenants", params(("id" = uuid::Uuid, Path)),
    request_body = DeleteTenant,
    responses((status = 202, body = TenantDetailsView), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 413, body = Problem), (status = 415, body = Problem),
        (status = 422, body = Problem)))]
async fn delete_tenant(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Body(body): Body<DeleteTenant>,
) -> ApiResult<(StatusCode, axum::Json<TenantDetailsView>)> {
    let deletion = &state.services.tenant_deletion;
    let closed = deletion.request_of(&caller, TenantId(id), &body.name).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(closed.into())))
}

/// Restore a tenant whose deletion was requested and has not begun. For the operator of the server.
#[utoipa::path(post, path = "/api/tenants/{id}/restore", tag = "tenants", params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = TenantDetailsView), (status = 404, body = Problem)))]
async fn restore_tenant(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Body(Empty {}): Body<Empty>,
) -> ApiResult<axum::Json<TenantDetailsView>> {
    let deletion = &state.services.tenant_deletion;
    Ok(axum::Json(deletion.restore_of(&caller, TenantId(id)).await?.into()))
}
