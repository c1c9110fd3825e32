//! `/api/groups`

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AppState;
use super::extract::{Body, Empty, Id, PageParams, Params};
use super::problem::{Answer, Problem};
use super::views::{PageView, stored_json};
use crate::domain::group::{GroupState, UpdateState};
use crate::domain::ids::{AgentId, ApiKeyId, CommandId, GroupId};
use crate::domain::target::TargetSpec;
use crate::domain::time::Timestamp;
use crate::services::caller::Caller;
use crate::services::groups::{GroupNow, GroupRequest};
use crate::store::entities::{agent_update, group};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_groups, create_group))
        .routes(routes!(get_group, update_group, delete_group))
        .routes(routes!(pause_group))
        .routes(routes!(resume_group))
}

/// Agents that are to be of one version.
#[derive(Debug, Serialize, ToSchema)]
struct GroupView {
    id: GroupId,
    name: String,
    #[schema(value_type = TargetSpec)]
    target: Value,
    /// `null` leaves agents as they are.
    wanted_version: Option<String>,
    state: GroupState,
    /// Why it halted.
    halt_reason: Option<String>,
    /// The last wave that was begun.
    wave: i32,
    #[schema(value_type = Object)]
    wave_size: Value,
    #[schema(value_type = Object)]
    max_failures: Value,
    healthy_for_ms: i64,
    /// Whose wish it is.
    wanted_by: ApiKeyId,
    created_at: Timestamp,
    changed_at: Timestamp,
}

/// A group and where its agents are.
#[derive(Debug, Serialize, ToSchema)]
struct GroupWithAgents {
    #[serde(flatten)]
    group: GroupView,
    agent_count: usize,
    /// Agents that are of the wanted version.
    there_count: usize,
    updating_count: usize,
    /// Agents that are asked again later.
    pending_count: usize,
    failed_count: usize,
    /// Agents that were asked and have been offline since: nobody waits for them.
    away_count: usize,
    /// The first 50 that failed, are asked again or are away, with the reason.
    troubles: Vec<TroubleView>,
    /// The first 50 that the target means and that belong to an older group.
    elsewhere: Vec<AgentId>,
}

/// Why an agent is not there.
#[derive(Debug, Serialize, ToSchema)]
struct TroubleView {
    agent_id: AgentId,
    wave: i32,
    state: UpdateState,
    code: Option<String>,
    message: Option<String>,
    command_id: CommandId,
    at: Timestamp,
}

impl From<group::Model> for GroupView {
    fn from(row: group::Model) -> Self {
        Self {
            id: row.id,
            name: row.name,
            target: stored_json(&row.target),
            wanted_version: row.wanted_version,
            state: row.state,
            halt_reason: row.halt_reason,
            wave: row.wave,
            wave_size: stored_json(&row.wave_size),
            max_failures: stored_json(&row.max_failures),
            healthy_for_ms: row.healthy_for_ms,
            wanted_by: row.wanted_by,
            created_at: row.created_at,
            changed_at: row.changed_at,
        }
    }
}

impl From<agent_update::Model> for TroubleView {
    fn from(row: agent_update::Model) -> Self {
        Self {
            agent_id: row.agent_id,
            wave: row.wave,
            state: row.state,
            code: row.code,
            message: row.message,
            command_id: row.command_id,
            at: row.changed_at,
        }
    }
}

impl From<GroupNow> for GroupWithAgents {
    fn from(now: GroupNow) -> Self {
        Self {
            group: now.row.into(),
            agent_count: now.agents,
            there_count: now.there,
            updating_count: now.updating,
            pending_count: now.pending,
            failed_count: now.failed,
            away_count: now.away,
            troubles: now.troubles.into_iter().map(TroubleView::from).collect(),
            elsewhere: now.elsewhere,
        }
    }
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
    wanted_version: Option<Option<String>>,
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
            wanted_version: body.wanted_version,
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
) -> Answer<axum::Json<PageView<GroupView>>> {
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
) -> Answer<Response> {
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
) -> Answer<axum::Json<GroupWithAgents>> {
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
) -> Answer<axum::Json<GroupWithAgents>> {
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
) -> Answer<StatusCode> {
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
) -> Answer<axum::Json<GroupWithAgents>> {
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
) -> Answer<axum::Json<GroupWithAgents>> {
    Ok(axum::Json(state.services.groups.resume(&caller, GroupId(id)).await?.into()))
}
