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

/// What is to be so of a group; what is absent stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct GroupBody {
    name: Option<String>,
    /// Who belongs to it. An agent belongs to one group: the oldest that means it.
    target: Option<TargetSpec>,
    /// A published version, newer or older; `null` leaves agents as they are.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    desired_version: Option<Option<String>>,
    /// Agents that are asked at once: a number, or a share such as `"10%"`. 1 unless asked otherwise.
    #[schema(value_type = Option<Object>)]
    wave_size: Option<Value>,
    /// Agents that may fail before it halts: a number, or a share. 0 unless asked otherwise.
    #[schema(value_type = Option<Object>)]
    max_failures: Option<Value>,
    /// Before the next wave, each agent of the last has to be connected for this long: at most a day.
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

/// Tells `null` from absent.
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

/// Make a group; `name` and `target` are needed. With a wanted version it begins at once.
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

/// Get a group, and where its agents are.
#[utoipa::path(get, path = "/api/groups/{id}", tag = "groups", params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = GroupWithAgents), (status = 404, body = Problem)))]
async fn get_group(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> ApiResult<axum::Json<GroupWithAgents>> {
    Ok(axum::Json(state.services.groups.get(&caller, GroupId(id)).await?.into()))
}

/// Change a group. Another wanted version is rolled out in waves, up or down, from the beginning.
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

/// Delete a group. Its agents stay as they are.
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

/// Ask no more agents for now; those that were asked go on. Repeatable.
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

/// Go on after a pause or a halt; agents that failed are asked again. Repeatable.
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
