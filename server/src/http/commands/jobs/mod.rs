//! `/api/jobs`

mod rollouts;

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use muster_protocol::object::Object;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::rollouts::RolloutView;
use super::commands::Mismatch;
use crate::domain::commands::approval::WorkApproval;
use crate::domain::commands::job_state::{JobState, Stop};
use crate::domain::commands::ladder::Confirmation;
use crate::domain::commands::rollout::RolloutSpec;
use crate::domain::commands::trigger::Trigger;
use crate::domain::fleet::target::TargetSpec;
use crate::domain::ids::{JobId, PrincipalId};
use crate::domain::time::Timestamp;
use crate::http::AppState;
use crate::http::extract::{Body, Empty, Id, PageParams, Params, idempotency_key};
use crate::http::problem::{ApiResult, Problem};
use crate::http::views::{PageView, shown_webhook, stored_json};
use crate::services::access::caller::Caller;
use crate::services::commands::jobs::{JobRequest, JobSnapshot, RetryScope};

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(submit_job, list_jobs))
        .routes(routes!(get_job))
        .routes(routes!(cancel_job))
        .merge(rollouts::routes())
        .routes(routes!(retry_job))
}

/// A script or an ad-hoc command to run on every agent that the target matches. Send exactly one of
/// `script` and `argv`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct JobBody {
    /// Name of a script in the hosts' manifests.
    script: Option<String>,
    /// A program, by name or full path, and its arguments, which are passed unchanged. Needs hosts
    /// with the policy `shell` and the scope `commands:shell`.
    #[schema(value_type = Option<Vec<String>>)]
    argv: Option<Value>,
    /// Object of strings.
    #[schema(value_type = Option<Object>)]
    parameters: Option<Value>,
    /// Object of strings that are sealed, masked in output and never returned. Needs a target of ids
    /// or tags.
    #[schema(value_type = Option<Object>)]
    secret_parameters: Option<Value>,
    #[schema(value_type = TargetSpec)]
    target: Object<TargetSpec>,
    /// Runs the job in waves. Without it, all executions start at once.
    #[schema(value_type = Option<RolloutSpec>)]
    rollout: Option<Object<RolloutSpec>>,
    /// How long one execution may run: at most 7 days, default 1 h.
    timeout_ms: Option<u64>,
    /// How long an execution waits for its agent: at most 30 days, default 24 h. In a rollout the time
    /// starts when its hold is lifted.
    expires_in_ms: Option<u64>,
    /// Receives a message when every execution has ended.
    #[schema(value_type = Option<WebhookBody>)]
    webhook: Option<Object<WebhookBody>>,
    /// If hosts would refuse it by their last reported manifest and policy: `refuse` the whole job
    /// (default), or `send` it and let each host decide.
    #[serde(default)]
    on_mismatch: Mismatch,
    /// The number of agents that the request reaches, repeated to confirm it. Needed where the ladder of
    /// the tenant asks for it; a request with another number is refused with `agent_count_unconfirmed`.
    confirm_agent_count: Option<u64>,
    /// Why it starts although a calendar holds it back: 1 to 200 characters, for the audit log.
    calendar_override: Option<String>,
}

/// Receives a `job.finished` message, signed as the Standard Webhooks specification defines it with
/// the secret from `POST /api/webhooks/secret`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct WebhookBody {
    /// `https://…`, at most 2048 bytes, to a public address unless the server allows private ones.
    url: String,
}

/// Which executions to retry.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RetryBody {
    /// `failed`: those that did not succeed (default). `all`: every execution.
    #[serde(default)]
    executions: RetryChoice,
    /// The number of agents that the request reaches, repeated to confirm it. Needed where the ladder of
    /// the tenant asks for it; a request with another number is refused with `agent_count_unconfirmed`.
    confirm_agent_count: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum RetryChoice {
    #[default]
    Failed,
    All,
}

/// A job with its progress.
#[derive(Debug, Serialize, ToSchema)]
struct JobView {
    id: JobId,
    /// Absent if it is an ad-hoc command.
    #[serde(skip_serializing_if = "Option::is_none")]
    script: Option<String>,
    /// The ad-hoc command.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    argv: Option<Value>,
    #[schema(value_type = Option<Object>)]
    parameters: Value,
    /// Names of its secret parameters.
    secret_names: Vec<String>,
    #[schema(value_type = Object)]
    target: Value,
    state: JobState,
    /// The request for somebody else's approval, if a rule asked for one.
    approval: Option<WorkApproval>,
    /// Why its rollout is halted, and what to do.
    halt_reason: Option<String>,
    /// Progress of its waves, if it has a rollout.
    rollout: Option<RolloutView>,
    /// How the job was ended early.
    stop: Option<Stop>,
    /// Number of executions by state. States without executions are left out.
    #[schema(value_type = Object)]
    counts: BTreeMap<&'static str, u64>,
    /// Address of its webhook, without the query. Callers who may only read see the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook_url: Option<String>,
    /// Number of executions at its start.
    agent_count: i64,
    requested_by: PrincipalId,
    requested_from: Option<String>,
    created_at: Timestamp,
    /// When the last execution ended, once all have.
    finished_at: Option<Timestamp>,
}

impl JobView {
    /// The job as this caller may see it.
    fn new(job: JobSnapshot, caller: &Caller) -> Self {
        let JobSnapshot { row, progress, rollout, approval } = job;
        let data = stored_json(&row.data);
        Self {
            id: row.id,
            script: Some(row.script).filter(|script| !script.is_empty()),
            argv: data.get("argv").cloned(),
            parameters: data.get("parameters").cloned().unwrap_or(Value::Null),
            secret_names: row.secret_names,
            target: stored_json(&row.target),
            halt_reason: rollout.as_ref().and_then(|rollout| rollout.row.halt_reason.clone()),
            rollout: rollout.map(RolloutView::from),
            stop: row.stop,
            state: row.state,
            approval,
            counts: progress.counts.iter().map(|(state, n)| (state.as_str(), *n)).collect(),
            webhook_url: row.webhook_url.map(|url| shown_webhook(&url, caller)),
            agent_count: row.agent_count,
            requested_by: row.requested_by,
            requested_from: row.requested_from,
            created_at: row.created_at,
            finished_at: row.finished_at,
        }
    }
}

fn accepted(job: JobSnapshot, caller: &Caller) -> Response {
    let location = format!("/api/jobs/{}", job.row.id);
    let view = axum::Json(JobView::new(job, caller));
    (StatusCode::ACCEPTED, [(header::LOCATION, location)], view).into_response()
}

/// Run a script on many agents. The response follows the commit and holds the job.
#[utoipa::path(post, path = "/api/jobs", tag = "jobs", request_body = JobBody,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 202, body = JobView), (status = 403, body = Problem), (status = 422, body = Problem), (status = 409, body = Problem), (status = 429, body = Problem)))]
async fn submit_job(
    State(state): State<AppState>,
    caller: Caller,
    headers: HeaderMap,
    Body(body): Body<JobBody>,
) -> ApiResult<Response> {
    let request = JobRequest {
        script: body.script,
        argv: body.argv,
        parameters: body.parameters,
        secret_parameters: body.secret_parameters,
        timeout_ms: body.timeout_ms,
        expires_in_ms: body.expires_in_ms,
        target: body.target.0,
        rollout: body.rollout.map(|rollout| rollout.0),
        webhook_url: body.webhook.map(|webhook| webhook.0.url),
        idempotency_key: idempotency_key(&headers)?,
        trigger: Trigger::Api,
        on_mismatch: body.on_mismatch.into(),
        confirmation: body.confirm_agent_count.map(Confirmation::Exactly),
        calendar_override: body.calendar_override,
    };
    Ok(accepted(state.services.jobs.submit(&caller, request).await?, &caller))
}

/// List jobs, newest first.
#[utoipa::path(get, path = "/api/jobs", tag = "jobs", params(PageParams),
    responses((status = 200, body = PageView<JobView>)))]
async fn list_jobs(
    State(state): State<AppState>,
    caller: Caller,
    Params(params): Params<PageParams>,
) -> ApiResult<axum::Json<PageView<JobView>>> {
    let jobs = state.services.jobs.list(&caller, params.read()?).await?;
    Ok(axum::Json(jobs.map(|job| JobView::new(job, &caller)).into()))
}

/// Get one job.
#[utoipa::path(get, path = "/api/jobs/{id}", tag = "jobs",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = JobView), (status = 404, body = Problem)))]
async fn get_job(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> ApiResult<axum::Json<JobView>> {
    let job = state.services.jobs.get(&caller, JobId(id)).await?;
    Ok(axum::Json(JobView::new(job, &caller)))
}

/// Cancel every open execution. Queued ones end at once; otherwise the agents decide. Repeatable.
#[utoipa::path(post, path = "/api/jobs/{id}/cancel", tag = "jobs",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 202, body = JobView), (status = 404, body = Problem)))]
async fn cancel_job(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Body(Empty {}): Body<Empty>,
) -> ApiResult<Response> {
    Ok(accepted(state.services.jobs.cancel(&caller, JobId(id)).await?, &caller))
}

/// Retry a job as a new one, on the agents of its executions.
#[utoipa::path(post, path = "/api/jobs/{id}/retry", tag = "jobs", request_body = RetryBody,
    params(("id" = uuid::Uuid, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 202, body = JobView), (status = 404, body = Problem), (status = 409, body = Problem), (status = 429, body = Problem)))]
async fn retry_job(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    headers: HeaderMap,
    Body(body): Body<RetryBody>,
) -> ApiResult<Response> {
    let scope = match body.executions {
        RetryChoice::All => RetryScope::All,
        RetryChoice::Failed => RetryScope::Failed,
    };
    let key = idempotency_key(&headers)?;
    let confirmation = body.confirm_agent_count.map(Confirmation::Exactly);
    let retried = state.services.jobs.retry(&caller, JobId(id), scope, confirmation, key).await?;
    Ok(accepted(retried, &caller))
}
