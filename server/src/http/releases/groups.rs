//! `/api/groups`

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::domain::commands::ladder::Confirmation;
use crate::domain::fleet::target::TargetSpec;
use crate::domain::ids::{AgentId, CommandId, GroupId, PrincipalId};
use crate::domain::releases::group::cohort::{CohortSnapshot, CohortState};
use crate::domain::releases::group::{GroupState, UpdateState};
use crate::domain::releases::records::{AgentUpdateRecord, GroupRecord};
use crate::domain::time::Timestamp;
use crate::http::AppState;
use crate::http::extract::{Body, Empty, Id, PageParams, Params};
use crate::http::problem::{ApiResult, Problem};
use crate::http::views::{PageView, stored_json};
use crate::services::access::caller::Caller;
use crate::services::releases::groups::{CohortRecord, GroupRequest, GroupSnapshot};

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
    /// The number of agents that the group has now, repeated to confirm it. Needed where the ladder of
    /// the tenant asks for it and the group has a desired version.
    confirm_agent_count: Option<u64>,
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
            confirmation: body.confirm_agent_count.map(Confirmation::Exactly),
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

/// A group of agents that follow one version.
#[derive(Debug, Serialize, ToSchema)]
struct GroupView {
    id: GroupId,
    name: String,
    #[schema(value_type = TargetSpec)]
    target: Value,
    /// `null`: the group does not change the version of its agents.
    desired_version: Option<String>,
    state: GroupState,
    /// Why the group halted.
    halt_reason: Option<String>,
    /// The last wave that was started.
    wave: i32,
    #[schema(value_type = Object)]
    wave_size: Value,
    #[schema(value_type = Object)]
    max_failures: Value,
    healthy_for_ms: i64,
    /// The API key that set the desired version.
    requested_by: PrincipalId,
    created_at: Timestamp,
    changed_at: Timestamp,
}

/// A group and the state of its agents.
#[derive(Debug, Serialize, ToSchema)]
struct GroupWithAgents {
    #[serde(flatten)]
    group: GroupView,
    agent_count: usize,
    /// Agents that run the desired version.
    up_to_date_count: usize,
    updating_count: usize,
    /// Agents that are tried again later.
    pending_count: usize,
    failed_count: usize,
    /// Agents that went offline after the update was requested. The rollout does not wait for them.
    unreachable_count: usize,
    /// Agents on platforms that the desired release has no programs for. They are not updated.
    incompatible_count: usize,
    /// The agents that were updated or need it, by system, processor and service manager. In each cohort
    /// one agent, the canary, is updated first.
    cohorts: Vec<CohortView>,
    /// The first 50 agents that failed, are pending or are unreachable, with the reason.
    problems: Vec<AgentProblemView>,
    /// The first 50 agents that the target matches and that belong to an older group.
    claimed_by_other_group: Vec<AgentId>,
}

/// Agents of a group with the same system, processor and service manager.
#[derive(Debug, Serialize, ToSchema)]
struct CohortView {
    /// `linux`, `macos`, `windows` or `unknown`.
    os: &'static str,
    /// Such as `x86_64`, or `unknown`.
    arch: &'static str,
    /// `systemd`, `openrc`, `runit`, `cron`, `none`, `docker` or `unknown`.
    service_manager: &'static str,
    state: CohortState,
    agent_count: usize,
    /// The first agent of the cohort that is updated.
    canary_id: Option<AgentId>,
    canary_name: Option<String>,
    /// Why the other agents are held back, or why the canary counts by its registration alone.
    note: Option<String>,
}

/// Why an agent is not up to date.
#[derive(Debug, Serialize, ToSchema)]
struct AgentProblemView {
    agent_id: AgentId,
    wave: i32,
    state: UpdateState,
    code: Option<String>,
    message: Option<String>,
    command_id: CommandId,
    at: Timestamp,
}

impl From<GroupRecord> for GroupView {
    fn from(row: GroupRecord) -> Self {
        Self {
            id: row.id,
            name: row.name,
            target: stored_json(&row.target),
            desired_version: row.desired_version,
            state: row.state,
            halt_reason: row.halt_reason,
            wave: row.wave,
            wave_size: stored_json(&row.wave_size),
            max_failures: stored_json(&row.max_failures),
            healthy_for_ms: row.healthy_for_ms,
            requested_by: row.requested_by,
            created_at: row.created_at,
            changed_at: row.changed_at,
        }
    }
}

impl From<AgentUpdateRecord> for AgentProblemView {
    fn from(row: AgentUpdateRecord) -> Self {
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

impl From<CohortRecord> for CohortView {
    fn from(record: CohortRecord) -> Self {
        let CohortSnapshot { cohort, state, agents, canary, held } = record.snapshot;
        Self {
            os: cohort.os,
            arch: cohort.arch,
            service_manager: cohort.service_manager,
            state,
            agent_count: agents,
            canary_id: canary,
            canary_name: record.canary_name,
            note: held.or(record.note),
        }
    }
}

impl From<GroupSnapshot> for GroupWithAgents {
    fn from(snapshot: GroupSnapshot) -> Self {
        Self {
            group: snapshot.row.into(),
            agent_count: snapshot.agents,
            up_to_date_count: snapshot.up_to_date,
            updating_count: snapshot.updating,
            pending_count: snapshot.pending,
            failed_count: snapshot.failed,
            unreachable_count: snapshot.unreachable,
            incompatible_count: snapshot.incompatible,
            cohorts: snapshot.cohorts.into_iter().map(CohortView::from).collect(),
            problems: snapshot.problems.into_iter().map(AgentProblemView::from).collect(),
            claimed_by_other_group: snapshot.claimed_by_other_group,
        }
    }
}
