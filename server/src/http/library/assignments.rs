//! `/api/assignments`: packages and scripts that are wanted on agents.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use muster_protocol::frame::Outcome;
use muster_protocol::object::Object;
use muster_protocol::package::{ServiceHealth, ServiceLimits, ServiceReport, TaskSchedule};
use muster_protocol::parameter::Parameters;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::assignment_rollouts::{AssignmentRolloutBody, AssignmentRolloutView};
use crate::domain::commands::ladder::Confirmation;
use crate::domain::fleet::target::TargetSpec;
use crate::domain::ids::{AgentId, AssignmentId, CommandId, PrincipalId};
use crate::domain::time::Timestamp;
use crate::http::AppState;
use crate::http::extract::{Body, Id, PageParams, Params, page};
use crate::http::problem::{ApiResult, Problem};
use crate::http::views::{PageView, stored_json};
use crate::services::access::caller::Caller;
use crate::services::library::assignments::{
    AssignedAgent, AssignmentHold, AssignmentRequest, AssignmentSnapshot,
};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_assignments, create_assignment))
        .routes(routes!(get_assignment, update_assignment, delete_assignment))
        .routes(routes!(list_assignment_agents))
        .routes(routes!(resume_assignment_rollout))
        .routes(routes!(finish_assignment_rollout))
        .routes(routes!(abort_assignment_rollout))
}

/// A new assignment.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateAssignment {
    name: String,
    /// `package:NAME@VERSION`, or `package:NAME` for the version that was uploaded last; its kind must be `task` or
    /// `service`. Or `library:NAME@VERSION`, or `library:NAME` for the current version of the script.
    #[schema(example = "package:backup@1.2.0")]
    script: String,
    #[schema(value_type = TargetSpec)]
    target: Object<TargetSpec>,
    /// Of each run. They can't be secret, because hosts keep them, and never change.
    #[serde(default)]
    #[schema(value_type = Object)]
    parameters: Parameters,
    /// When a script of the library is due; required with one, and refused with a package, which has its own. It never
    /// changes.
    schedule: Option<AssignmentSchedule>,
    /// Brings the version to the agents in waves; all at once if absent.
    rollout: Option<AssignmentRolloutBody>,
    /// The number of agents that the target matches now, if the ladder of the tenant asks for it.
    confirm_agent_count: Option<u64>,
}

/// When a script that is assigned is due: `cron` or `every_ms`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AssignmentSchedule {
    /// Minute, hour, day of the month, month and day of the week.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "0 3 * * *")]
    cron: Option<String>,
    /// The IANA name of the zone of `cron`. Default: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "Europe/Berlin")]
    time_zone: Option<String>,
    /// An interval that counts from the Unix epoch: 1 s to 366 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    every_ms: Option<u64>,
}

impl From<AssignmentSchedule> for TaskSchedule {
    fn from(body: AssignmentSchedule) -> Self {
        let AssignmentSchedule { cron, time_zone, every_ms } = body;
        Self { cron, time_zone, every_ms }
    }
}

impl From<TaskSchedule> for AssignmentSchedule {
    fn from(schedule: TaskSchedule) -> Self {
        let TaskSchedule { cron, time_zone, every_ms } = schedule;
        Self { cron, time_zone, every_ms }
    }
}

/// Changes to an assignment. Missing fields keep their values.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UpdateAssignment {
    name: Option<String>,
    /// Another version of the same package or script.
    #[schema(example = "package:backup@1.3.0")]
    script: Option<String>,
    #[schema(value_type = Option<TargetSpec>)]
    target: Option<Object<TargetSpec>>,
    /// Brings the version to the agents in waves; all at once if absent.
    rollout: Option<AssignmentRolloutBody>,
    /// The number of agents that the target matches now, if the ladder of the tenant asks for it.
    confirm_agent_count: Option<u64>,
}

/// A version of a package or a script that is wanted on the agents of a target.
#[derive(Debug, Serialize, ToSchema)]
struct AssignmentView {
    id: AssignmentId,
    name: String,
    /// `task` or `service`, as the package says, or `script`.
    #[schema(example = "task")]
    kind: &'static str,
    #[schema(example = "package:backup@1.2.0")]
    script: String,
    /// Of a script.
    schedule: Option<AssignmentSchedule>,
    #[schema(value_type = TargetSpec)]
    target: Value,
    #[schema(value_type = Object)]
    parameters: Parameters,
    /// While the version reaches the agents in waves.
    rollout: Option<AssignmentRolloutView>,
    created_by: PrincipalId,
    created_at: Timestamp,
    changed_at: Timestamp,
}

/// What a service does on an agent.
#[derive(Debug, Serialize, ToSchema)]
struct ServiceStateView {
    /// `waiting`: it can't start yet. `running`, `stopping`. `backoff`: it starts again at `restart_at`.
    /// `stopped`: a person stopped it. `ended`: its restart policy does not start it again.
    #[schema(example = "running")]
    state: &'static str,
    /// The execution of its last run, which has its output.
    run_id: Option<CommandId>,
    started_at: Option<Timestamp>,
    /// Starts after an end that was not requested, since the host has this version.
    restart_count: u64,
    restart_at: Option<Timestamp>,
    /// How the last run that has ended did so, as a state of an execution.
    #[schema(value_type = Option<String>, example = "failed")]
    last_outcome: Option<Outcome>,
    last_error_code: Option<String>,
    /// `unknown`, `healthy` or `failing`; `null` without a check, and while it does not run.
    #[schema(value_type = Option<String>, example = "healthy")]
    health: Option<ServiceHealth>,
    /// `applied` or `unavailable`; `null` without limits, and while it does not run.
    #[schema(value_type = Option<String>, example = "applied")]
    limits: Option<ServiceLimits>,
}

impl ServiceStateView {
    fn of(agent_id: AgentId, assignment_id: AssignmentId, report: &ServiceReport) -> Self {
        let instant = |ms: u64| Timestamp(i64::try_from(ms).unwrap_or(i64::MAX));
        Self {
            state: report.state.as_str(),
            run_id: report.run_id(agent_id.0, assignment_id.0).map(CommandId),
            started_at: report.started_at_ms.map(instant),
            restart_count: report.restart_count,
            restart_at: report.restart_at_ms.map(instant),
            last_outcome: report.last_outcome,
            last_error_code: report.last_error_code.clone(),
            health: report.health,
            limits: report.limits,
        }
    }
}

/// How far an agent is with an assignment.
#[derive(Debug, Serialize, ToSchema)]
struct AssignedAgentView {
    agent_id: AgentId,
    agent_name: String,
    is_connected: bool,
    /// The version that the agent is to have now; `null` until the first wave that reaches it.
    #[schema(example = "1.2.0")]
    version: Option<String>,
    /// The wave that has reached it, while a version reaches the agents in waves.
    wave: Option<i32>,
    /// `wanted`: the agent has reported nothing about this version. `downloading`, `installed`, `failed`. `held`: the
    /// server does not send it; `error` says why.
    #[schema(example = "installed")]
    state: String,
    /// Why it failed, for programs.
    error_code: Option<String>,
    /// Why it failed, for people.
    error: Option<String>,
    /// Due times that did not become a run on this host.
    skipped_count: i64,
    /// Of a service: what its host reported last.
    service: Option<ServiceStateView>,
    reported_at: Option<Timestamp>,
}

impl From<AssignmentSnapshot> for AssignmentView {
    fn from(AssignmentSnapshot { row, rollout }: AssignmentSnapshot) -> Self {
        Self {
            rollout: rollout.map(|rollout| AssignmentRolloutView::of(&row, rollout)),
            kind: row.kind.as_str(),
            script: row.reference(),
            schedule: row.schedule().map(AssignmentSchedule::from),
            parameters: row.parameters(),
            id: row.id,
            name: row.name,
            target: stored_json(&row.target),
            created_by: row.created_by,
            created_at: row.created_at,
            changed_at: row.changed_at,
        }
    }
}

impl AssignedAgentView {
    fn of(assignment_id: AssignmentId, agent: AssignedAgent) -> Self {
        let AssignedAgent { facts, version, wave, state, hold } = agent;
        let reported = || state.as_ref().map(|state| state.state.clone());
        let shown = hold.as_ref().map(|_| "held".to_owned()).or_else(reported);
        let code = || state.as_ref().and_then(|state| state.error_code.clone());
        let error_code = hold.as_ref().map(|hold| hold.code().to_owned()).or_else(code);
        let text = || state.as_ref().and_then(|state| state.error.clone());
        let error = hold.as_ref().map(AssignmentHold::text).or_else(text);
        let service = state.as_ref().and_then(|state| state.service.as_ref());
        Self {
            service: service.map(|report| ServiceStateView::of(facts.id, assignment_id, report)),
            agent_id: facts.id,
            agent_name: facts.name,
            is_connected: facts.is_online,
            version,
            wave,
            state: shown.unwrap_or_else(|| "wanted".to_owned()),
            skipped_count: state.as_ref().map_or(0, |state| state.skipped_count),
            reported_at: state.as_ref().map(|state| state.reported_at),
            error_code,
            error,
        }
    }
}

/// List assignments, newest first.
#[utoipa::path(get, path = "/api/assignments", tag = "library", params(PageParams),
    responses((status = 200, body = PageView<AssignmentView>), (status = 422, body = Problem)))]
async fn list_assignments(
    State(state): State<AppState>,
    caller: Caller,
    Params(params): Params<PageParams>,
) -> ApiResult<axum::Json<PageView<AssignmentView>>> {
    let page = page(params.cursor.as_deref(), params.limit)?;
    let page = state.services.assignments.list(&caller, page).await?;
    Ok(axum::Json(page.map(AssignmentView::from).into()))
}

/// Assign a package or a script to the agents of a target, also to those that join it later. Each agent gets it when it
/// is connected, and runs it at its due times, also while it is not.
#[utoipa::path(post, path = "/api/assignments", tag = "library", request_body = CreateAssignment,
    responses((status = 201, body = AssignmentView), (status = 403, body = Problem), (status = 409, body = Problem),
        (status = 422, body = Problem)))]
async fn create_assignment(
    State(state): State<AppState>,
    caller: Caller,
    Body(body): Body<CreateAssignment>,
) -> ApiResult<Response> {
    let request = AssignmentRequest {
        name: Some(body.name),
        script: Some(body.script),
        schedule: body.schedule.map(Into::into),
        target: Some(body.target.0),
        parameters: body.parameters,
        rollout: body.rollout.map(Into::into),
        confirmation: body.confirm_agent_count.map(Confirmation::Exactly),
    };
    let assignment = state.services.assignments.create(&caller, request).await?;
    let location = [(header::LOCATION, format!("/api/assignments/{}", assignment.row.id))];
    let view = axum::Json(AssignmentView::from(assignment));
    Ok((StatusCode::CREATED, location, view).into_response())
}

/// Get an assignment.
#[utoipa::path(get, path = "/api/assignments/{id}", tag = "library", params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = AssignmentView), (status = 404, body = Problem)))]
async fn get_assignment(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> ApiResult<axum::Json<AssignmentView>> {
    Ok(axum::Json(state.services.assignments.get(&caller, AssignmentId(id)).await?.into()))
}

/// Change the name, the target, or the version, which reaches the agents at once or in waves.
#[utoipa::path(patch, path = "/api/assignments/{id}", tag = "library", params(("id" = uuid::Uuid, Path)),
    request_body = UpdateAssignment,
    responses((status = 200, body = AssignmentView), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn update_assignment(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Body(body): Body<UpdateAssignment>,
) -> ApiResult<axum::Json<AssignmentView>> {
    let request = AssignmentRequest {
        name: body.name,
        script: body.script,
        schedule: None,
        target: body.target.map(|target| target.0),
        parameters: Parameters::default(),
        rollout: body.rollout.map(Into::into),
        confirmation: body.confirm_agent_count.map(Confirmation::Exactly),
    };
    let assignments = &state.services.assignments;
    Ok(axum::Json(assignments.update(&caller, AssignmentId(id), request).await?.into()))
}

/// Delete an assignment. Its agents remove what it names; runs that they have started end.
#[utoipa::path(delete, path = "/api/assignments/{id}", tag = "library", params(("id" = uuid::Uuid, Path)),
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem)))]
async fn delete_assignment(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> ApiResult<StatusCode> {
    state.services.assignments.delete(&caller, AssignmentId(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// List the agents that an assignment is for, with what they have reported about it. Oldest first.
#[utoipa::path(get, path = "/api/assignments/{id}/agents", tag = "library",
    params(("id" = uuid::Uuid, Path), PageParams),
    responses((status = 200, body = PageView<AssignedAgentView>), (status = 404, body = Problem),
        (status = 422, body = Problem)))]
async fn list_assignment_agents(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Params(params): Params<PageParams>,
) -> ApiResult<axum::Json<PageView<AssignedAgentView>>> {
    let page = page(params.cursor.as_deref(), params.limit)?;
    let page = state.services.assignments.agents(&caller, AssignmentId(id), page).await?;
    Ok(axum::Json(page.map(|agent| AssignedAgentView::of(AssignmentId(id), agent)).into()))
}

/// Continue a rollout that has halted. Agents that failed count no more, and the health gate of the last wave is
/// waived. Repeatable.
#[utoipa::path(post, path = "/api/assignments/{id}/rollout/resume", tag = "library",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = AssignmentView), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
async fn resume_assignment_rollout(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> ApiResult<axum::Json<AssignmentView>> {
    let assignments = &state.services.assignments;
    Ok(axum::Json(assignments.resume_rollout(&caller, AssignmentId(id)).await?.into()))
}

/// End a rollout: all agents get the version of the assignment at once.
#[utoipa::path(post, path = "/api/assignments/{id}/rollout/finish", tag = "library",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = AssignmentView), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
async fn finish_assignment_rollout(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> ApiResult<axum::Json<AssignmentView>> {
    let assignments = &state.services.assignments;
    Ok(axum::Json(assignments.finish_rollout(&caller, AssignmentId(id)).await?.into()))
}

/// Abort a rollout: the assignment names the former version again, and all agents get it.
#[utoipa::path(post, path = "/api/assignments/{id}/rollout/abort", tag = "library",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = AssignmentView), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
async fn abort_assignment_rollout(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> ApiResult<axum::Json<AssignmentView>> {
    let assignments = &state.services.assignments;
    Ok(axum::Json(assignments.abort_rollout(&caller, AssignmentId(id)).await?.into()))
}
