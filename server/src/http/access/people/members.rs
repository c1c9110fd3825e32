//! `/api/members`

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::setup::MemberView;
use crate::domain::access::principal::Role;
use crate::domain::ids::MemberId;
use crate::http::AppState;
use crate::http::extract::{Body, Id, PageParams, Params};
use crate::http::problem::{ApiResult, Problem};
use crate::http::views::PageView;
use crate::services::access::caller::Caller;

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list_members)).routes(routes!(update_member, remove_member))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UpdateMember {
    role: Role,
}

/// List the members of the tenant, oldest first.
#[utoipa::path(get, path = "/api/members", tag = "accounts", params(PageParams),
    responses((status = 200, body = PageView<MemberView>)))]
async fn list_members(
    State(state): State<AppState>,
    caller: Caller,
    Params(params): Params<PageParams>,
) -> ApiResult<axum::Json<PageView<MemberView>>> {
    let page = state.services.members.list(&caller, params.read()?).await?;
    Ok(axum::Json(page.map(MemberView::from).into()))
}

/// Change the role of a member. Only for a person who gave the password in the last 15 minutes.
///
/// A member who loses a right by it gets another id: its sessions, its API keys, its invitations and its
/// queued work end. A tenant always has an owner.
#[utoipa::path(patch, path = "/api/members/{id}", tag = "accounts",
    params(("id" = uuid::Uuid, Path)), request_body = UpdateMember,
    responses((status = 200, body = MemberView), (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn update_member(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Body(body): Body<UpdateMember>,
) -> ApiResult<axum::Json<MemberView>> {
    let member = state.services.members.set_role(&caller, MemberId(id), body.role).await?;
    Ok(axum::Json(member.into()))
}

/// Remove a member: its sessions, its API keys, its invitations and its queued work end. Only for a person
/// who gave the password in the last 15 minutes. Each member may remove itself.
#[utoipa::path(delete, path = "/api/members/{id}", tag = "accounts",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn remove_member(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> ApiResult<StatusCode> {
    state.services.members.remove(&caller, MemberId(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}
