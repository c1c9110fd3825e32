//! `/api/groups`

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::group_views::{GroupView, GroupWithAgents};
use crate::domain::fleet::target::TargetSpec;
use crate::domain::ids::GroupId;
use crate::http::AppState;
use crate::http::extract::{Body, Empty, Id, PageParams, Params};
use crate::http::problem::{ApiResult, Problem};
use crate::http::views::PageView;
use crate::services::access::caller::Caller;
use crate::services::releases::groups::GroupRequest;

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_groups, create_group))
        .routes(routes!(get_group, update_group, delete_group))
        .routes(routes!(pause_group))
        .routes(routes!(resume_group))
}

/// Changes to a group. Missing fields keep their values.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct GroupBody {
    name: Option<String>,
    /// Which agents belong to the group. An agent belongs to the oldest group whose target matches
    /// it.
    target: Option<TargetSpec>,
    /// A published version, newer or older. With `null` the group does not change the version of
    /// its agents.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    desired_version: Option<Option<String>>,
    /// Agents updated at the same time: a number, or a percentage such as `"10%"`. Default: 1.
    #[schema(value_type = Option<Object>)]
    wave_size: Option<Value>,
    /// Failed agents that the rollout tolerates: a number, or a percentage. One more halts it.
    /// Default: 0.
    #[schema(value_type = Option<Object>)]
    max_failures: Option<Value>,
    /// How long each agent of a wave must stay connected before the next wave starts, at most a
    /// day.
    healthy_for_ms: Option<u64>,
}

impl From<GroupBody> for GroupRequest {
    fn from(body: GroupBody) -> Self {
        Self {
            name: body.name,
            target: body.target,
            desired_version: body.desired_version,
            wave_size: body.wave_size,
            max_failures: body.max_failures,
            healthy_for_ms: body.healthy_for_ms,
        }
    }
}

/// Distinguishes `null` from a missing field.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// List groups, oldest first.
#[utoipa::path(get, path = "/api/groups", tag = "groups", params(PageParams),
    responses((status = 200, body = PageView<GroupView>)))]
async fn list_groups(
    State(state): State<AppState>,
    caller: Caller,
    Params(params): Params<PageParams>,
) -> ApiResult<axum::Json<PageView<GroupView>>> {
    let page = state.services.groups.list(&caller, params.read()?).await?;
    Ok(axum::Json(page.map(GroupView::from).into()))
}

/// Create a group. `name` and `target` are required. With a desired version the rollout starts at
/// once.
#[utoipa::path(post, path = "/api/groups", tag = "groups", request_body = GroupBody,
    responses((status = 201, body = GroupWithAgents), (status = 403, body = Problem), (status = 409, body = Problem),
        (status = 422, body = Problem)))]
async fn create_group(
    State(state): State<AppState>,
    caller: Caller,
    Body(body): Body<GroupBody>,
) -> ApiResult<Response> {
    let group = state.services.groups.create(&caller, body.into()).await?;
    let location = [(header::LOCATION, format!("/api/groups/{}", group.row.id))];
    let view = axum::Json(GroupWithAgents::from(group));
    Ok((StatusCode::CREATED, location, view).into_response())
}

/// Get a group, and the state of its agents.
#[utoipa::path(get, path = "/api/groups/{id}", tag = "groups", params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = GroupWithAgents), (status = 404, body = Problem)))]
async fn get_group(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> ApiResult<axum::Json<GroupWithAgents>> {
    Ok(axum::Json(state.services.groups.get(&caller, GroupId(id)).await?.into()))
}

/// Change a group. Another desired version, newer or older, is rolled out in waves from the first.
#[utoipa::path(patch, path = "/api/groups/{id}", tag = "groups", params(("id" = uuid::Uuid, Path)),
    request_body = GroupBody,
    responses((status = 200, body = GroupWithAgents), (status = 404, body = Problem), (status = 409, body = Problem),
        (status = 422, body = Problem)))]
async fn update_group(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Body(body): Body<GroupBody>,
) -> ApiResult<axum::Json<GroupWithAgents>> {
    let group = state.services.groups.update(&caller, GroupId(id), body.into()).await?;
    Ok(axum::Json(group.into()))
}

/// Delete a group. Its agents keep their version.
#[utoipa::path(delete, path = "/api/groups/{id}", tag = "groups", params(("id" = uuid::Uuid, Path)),
    responses((status = 204), (status = 404, body = Problem)))]
async fn delete_group(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> ApiResult<StatusCode> {
    state.services.groups.delete(&caller, GroupId(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Pause a group: no more updates are requested, and updates in progress continue. Repeatable.
#[utoipa::path(post, path = "/api/groups/{id}/pause", tag = "groups", params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = GroupWithAgents), (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn pause_group(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Body(Empty {}): Body<Empty>,
) -> ApiResult<axum::Json<GroupWithAgents>> {
    Ok(axum::Json(state.services.groups.pause(&caller, GroupId(id)).await?.into()))
}

/// Resume a paused or halted group. Failed agents are tried again. Repeatable.
#[utoipa::path(post, path = "/api/groups/{id}/resume", tag = "groups", params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = GroupWithAgents), (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn resume_group(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Body(Empty {}): Body<Empty>,
) -> ApiResult<axum::Json<GroupWithAgents>> {
    Ok(axum::Json(state.services.groups.resume(&caller, GroupId(id)).await?.into()))
}
