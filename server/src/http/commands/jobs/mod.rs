//! `/api/jobs`

mod preview;
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
use crate::domain::commands::approval::WorkApproval;
use crate::domain::commands::command_state::CommandState;
use crate::domain::commands::job_state::{JobState, Stop};
use crate::domain::commands::ladder::Confirmation;
use crate::domain::commands::offline_policy::OfflinePolicy;
use crate::domain::commands::open_state::job_explanation;
use crate::domain::commands::retries::{RetrySpec, StoredRetries};
use crate::domain::commands::rollout::RolloutSpec;
use crate::domain::commands::trigger::Trigger;
use crate::domain::fleet::target::TargetSpec;
use crate::domain::ids::{AgentId, JobId, PrincipalId};
use crate::domain::time::Timestamp;
use crate::http::AppState;
use crate::http::commands::executions::query::script;
use crate::http::commands::steps::{RequestedStep, StepBody};
use crate::http::extract::{Body, Empty, Id, Params, idempotency_key, page};
use crate::http::problem::{ApiResult, Problem};
use crate::http::views::{PageView, shown_webhook, stdin_bytes, stored_json};
use crate::services::access::caller::Caller;
use crate::services::commands::jobs::{JobRequest, JobSnapshot, RetryScope};
use crate::services::commands::preflight::OnMismatch;
use crate::store::queries::{EndedIn, JobFilter};

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(submit_job, list_jobs))
        .merge(preview::routes())
        .routes(routes!(get_job))
        .routes(routes!(cancel_job))
        .merge(rollouts::routes())
        .routes(routes!(retry_job))
}

/// A script or an ad-hoc command to run on every agent that the target matches, or steps of both. Send
/// exactly one of `script`, `argv` and `steps`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct JobBody {
    /// Name of a script in the hosts' manifests.
    script: Option<String>,
    /// A program, by name or full path, and its arguments, which are passed unchanged. Needs hosts
    /// with the policy `shell` and the scope `commands:shell`.
    #[schema(value_type = Option<Vec<String>>)]
    argv: Option<Value>,
    /// 1 to 20 scripts and ad-hoc commands, which run one after the other on each agent, as one execution.
    #[schema(value_type = Option<Vec<StepBody>>)]
    steps: Option<Value>,
    /// With the script `file:push` or `file:pull`: the file.
    #[schema(value_type = Option<FileTransferBody>)]
    file: Option<Value>,
    /// Object of strings.
    #[schema(value_type = Option<Object>)]
    parameters: Option<Value>,
    /// Object of strings that are sealed, masked in output and never returned. Needs a target of ids
    /// or tags.
    #[schema(value_type = Option<Object>)]
    secret_parameters: Option<Value>,
    /// What the program reads from standard input: base64, at most 256 KiB, and 64 MiB for all agents
    /// together. A script must have `"stdin": true` in the hosts' manifests.
    stdin: Option<String>,
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
    /// (default), `send` it and let each host decide, or `skip` these hosts.
    #[serde(default)]
    on_mismatch: JobMismatch,
    /// What to do about agents that are offline now: `wait` for them (default), `skip` them, or `fail`,
    /// which refuses the job. A rollout sets `rollout.offline` instead of `skip`.
    #[serde(default)]
    offline: OfflinePolicy,
    /// The number of agents that the request reaches, repeated to confirm it. Needed where the ladder of
    /// the tenant asks for it; a request with another number is refused with `agent_count_unconfirmed`.
    confirm_agent_count: Option<u64>,
    /// Why it starts although a calendar holds it back: 1 to 200 characters, for the audit log.
    calendar_override: Option<String>,
    /// Runs an execution again that failed or reached its timeout. Each attempt is an execution of its own;
    /// the job counts the last one of each agent.
    #[schema(value_type = Option<RetrySpec>)]
    retries: Option<Object<RetrySpec>>,
    /// Of the executions that name the same lock on one agent, one runs at a time: 1 to 64 letters, digits,
    /// `.`, `_` and `-`.
    lock: Option<String>,
}

impl JobBody {
    /// The request of an API caller.
    fn into_request(self, idempotency_key: Option<String>) -> JobRequest {
        JobRequest {
            script: self.script,
            argv: self.argv,
            steps: self.steps,
            file: self.file,
            parameters: self.parameters,
            secret_parameters: self.secret_parameters,
            stdin: self.stdin,
            timeout_ms: self.timeout_ms,
            expires_in_ms: self.expires_in_ms,
            target: self.target.0,
            rollout: self.rollout.map(|rollout| rollout.0),
            webhook_url: self.webhook.map(|webhook| webhook.0.url),
            idempotency_key,
            trigger: Trigger::Api,
            retry_of: None,
            offline: self.offline,
            on_mismatch: self.on_mismatch.into(),
            confirmation: self.confirm_agent_count.map(Confirmation::Exactly),
            calendar_override: self.calendar_override,
            retries: self.retries.map(|retries| retries.0),
            lock: self.lock,
        }
    }
}

/// A file that is pushed to hosts, or pulled from them.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "only described")]
pub(in crate::http) struct FileTransferBody {
    /// The full path on the host, in a folder that its policy lists.
    #[schema(example = "/srv/www/index.html")]
    path: String,
    /// For a push: hex SHA-256 of a file that was uploaded.
    sha256: Option<String>,
    /// Its size. Added by the server.
    bytes: Option<u64>,
    /// Permissions of a pushed file: three octal digits. Without, those of the file that it replaces, or 644.
    #[schema(example = "0644")]
    mode: Option<String>,
    /// The user that a pushed file belongs to.
    owner: Option<String>,
}

/// What happens to a job that some of its hosts would refuse.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum JobMismatch {
    #[default]
    Refuse,
    Send,
    Skip,
}

impl From<JobMismatch> for OnMismatch {
    fn from(asked: JobMismatch) -> Self {
        match asked {
            JobMismatch::Refuse => Self::Refuse,
            JobMismatch::Send => Self::Send,
            JobMismatch::Skip => Self::Skip,
        }
    }
}

/// Receives a `job.finished` message, signed as the Standard Webhooks specification defines it with
/// the secret from `POST /api/webhooks/secret`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct WebhookBody {
    /// `https://…`, at most 2048 bytes, to a public address unless the server allows private ones.
    pub url: String,
}

/// Which executions to retry.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RetryBody {
    /// `failed`: those that did not succeed (default). `all`: every execution.
    #[serde(default)]
    executions: RetryChoice,
    /// Only executions that ended in one of these states, instead of `executions`.
    states: Option<Vec<CommandState>>,
    /// Only on these agents.
    agent_ids: Option<Vec<AgentId>>,
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
    /// Absent if it is an ad-hoc command. Of steps: `steps:` and all of their scripts, with `(argv)` for ad-hoc
    /// commands.
    #[serde(skip_serializing_if = "Option::is_none")]
    script: Option<String>,
    /// The ad-hoc command.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    argv: Option<Value>,
    /// Its steps.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    steps: Vec<RequestedStep>,
    /// The file that it transfers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<FileTransferBody>)]
    file: Option<Value>,
    #[schema(value_type = Option<Object>)]
    parameters: Value,
    /// Names of its secret parameters.
    secret_names: Vec<String>,
    /// Bytes of standard input.
    stdin_bytes: Option<u64>,
    #[schema(value_type = Object)]
    target: Value,
    state: JobState,
    /// The request for another person's approval, if a rule asked for one.
    approval: Option<WorkApproval>,
    /// Why its rollout is halted, and what to do.
    halt_reason: Option<String>,
    /// Progress of its waves, if it has a rollout.
    rollout: Option<RolloutView>,
    /// Why it has not ended, what happens next and when, and what a person can do; `null` once it has
    /// ended.
    explanation: Option<String>,
    /// The job that this one retries.
    retry_of: Option<JobId>,
    /// How often each execution is run again by itself.
    retries: Option<RetrySpec>,
    /// The lock of its executions.
    lock: Option<String>,
    /// How the job was ended early.
    stop: Option<Stop>,
    /// Number of executions by state. States without executions are left out.
    #[schema(value_type = Object)]
    counts: BTreeMap<&'static str, u64>,
    /// Address of its webhook, without the query. Others than its requester see the host, unless they have `commands:manage` or `webhooks:write`.
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook_url: Option<String>,
    /// Number of executions at its start.
    agent_count: i64,
    requested_by: PrincipalId,
    /// The name of the API key or the member, unless it was deleted.
    requested_by_name: Option<String>,
    requested_from: Option<String>,
    created_at: Timestamp,
    /// When the last execution ended, once all have.
    finished_at: Option<Timestamp>,
}

impl JobView {
    /// The job as this caller may see it.
    fn new(job: JobSnapshot, caller: &Caller) -> Self {
        let JobSnapshot { row, requested_by_name, progress, rollout, approval } = job;
        let data = stored_json(&row.data);
        let counts: BTreeMap<_, _> =
            progress.counts.iter().map(|(state, n)| (state.as_str(), *n)).collect();
        let halt_reason = rollout.as_ref().and_then(|rollout| rollout.row.halt_reason.clone());
        let until = approval.as_ref().map(|approval| approval.expires_at);
        let explanation = match row.finished_at {
            Some(_) => None,
            None => job_explanation(row.state, &counts, halt_reason.as_deref(), until),
        };
        Self {
            id: row.id,
            script: Some(row.script).filter(|script| !script.is_empty()),
            argv: data.get("argv").cloned(),
            steps: RequestedStep::all(&data),
            file: data.get("file").cloned(),
            parameters: data.get("parameters").cloned().unwrap_or(Value::Null),
            secret_names: row.secret_names,
            stdin_bytes: stdin_bytes(&data),
            target: stored_json(&row.target),
            halt_reason,
            explanation,
            retry_of: row.retry_of,
            retries: row.retries.map(StoredRetries::spec),
            lock: row.lock,
            rollout: rollout.map(RolloutView::from),
            stop: row.stop,
            state: row.state,
            approval,
            counts,
            webhook_url: row
                .webhook_url
                .map(|url| shown_webhook(&url, caller, row.requested_by == caller.principal.id)),
            agent_count: row.agent_count,
            requested_by: row.requested_by,
            requested_by_name,
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
    let request = body.into_request(idempotency_key(&headers)?);
    Ok(accepted(state.services.jobs.submit(&caller, request).await?, &caller))
}

/// Filters for jobs.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct JobsParams {
    /// Only jobs in this state.
    state: Option<JobState>,
    /// Only jobs of this script.
    script: Option<String>,
    /// Only jobs that were created at this instant or later.
    created_after: Option<Timestamp>,
    /// Only jobs that were created before this instant.
    created_before: Option<Timestamp>,
    /// `next_cursor` of the previous page.
    cursor: Option<String>,
    /// Items per page, from 1 to 500. Default: 50.
    limit: Option<u64>,
}

/// List jobs, newest first.
#[utoipa::path(get, path = "/api/jobs", tag = "jobs", params(JobsParams),
    responses((status = 200, body = PageView<JobView>)))]
async fn list_jobs(
    State(state): State<AppState>,
    caller: Caller,
    Params(params): Params<JobsParams>,
) -> ApiResult<axum::Json<PageView<JobView>>> {
    let page = page(params.cursor.as_deref(), params.limit)?;
    let filter = JobFilter {
        state: params.state,
        script: script(params.script)?,
        created_after: params.created_after,
        created_before: params.created_before,
    };
    let jobs = state.services.jobs.list(&caller, &filter, page).await?;
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
    let ended = match (body.states, body.executions) {
        (Some(states), _) => EndedIn::States(states),
        (None, RetryChoice::All) => EndedIn::Any,
        (None, RetryChoice::Failed) => EndedIn::NotSucceeded,
    };
    let scope = RetryScope { ended, agent_ids: body.agent_ids };
    let key = idempotency_key(&headers)?;
    let confirmation = body.confirm_agent_count.map(Confirmation::Exactly);
    let retried = state.services.jobs.retry(&caller, JobId(id), scope, confirmation, key).await?;
    Ok(accepted(retried, &caller))
}
