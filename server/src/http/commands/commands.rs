//! `/api/commands`, and the requests that send a command to an agent.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::domain::commands::approval::{WorkApproval, end_sentence};
use crate::domain::commands::command_state::CommandState;
use crate::domain::commands::ladder::Confirmation;
use crate::domain::ids::{AgentId, CommandId, JobId, PrincipalId};
use crate::domain::time::Timestamp;
use crate::http::AppState;
use crate::http::extract::{Body, Empty, Id, Params, WaitParams, idempotency_key, page};
use crate::http::problem::{ApiResult, Problem};
use crate::http::views::{PageView, shown_data, stored_json};
use crate::services::access::caller::Caller;
use crate::services::commands::preflight::OnMismatch;
use crate::services::commands::{CommandRequest, SendResult};
use crate::store::queries::{CommandFilter, CommandWithReport};

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(ping_agent))
        .routes(routes!(command_agent))
        .routes(routes!(list_commands))
        .routes(routes!(get_command))
        .routes(routes!(cancel_command))
        .routes(routes!(retry_command))
}

/// A command for one agent.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct CommandBody {
    /// `ping`, `info`, `echo` and `scripts` are transient: the agent replies at once. `execute`,
    /// `restart`, `update`, `redeploy` and `shutdown` are durable: they are stored and delivered.
    command: String,
    /// For `execute`: `{script, parameters?, secret_parameters?, timeout_ms?}`. Hosts with the policy
    /// `shell` also accept `argv` (a program and its arguments) instead of `script`. `steps` instead of
    /// both runs several of them, as in a job. Secret parameters
    /// are sealed until the command ends, never returned, and masked in the output if they have 4
    /// bytes or more.
    #[schema(value_type = Option<Object>)]
    data: Option<Value>,
    /// How long to wait for the reply to a transient command: at most 60000, default 10000.
    wait_ms: Option<u64>,
    /// How long a durable command waits for its agent: at most 30 days,
    /// default 24 h.
    expires_in_ms: Option<u64>,
    /// For `execute`, if the host would refuse it by its last reported manifest and policy: `refuse`
    /// the request (default), or `send` it and let the host decide.
    #[serde(default)]
    on_mismatch: Mismatch,
    /// 1, to confirm a durable command. Needed where the ladder of the tenant asks for it.
    confirm_agent_count: Option<u64>,
    /// Why it starts although a calendar holds it back: 1 to 200 characters, for the audit log.
    calendar_override: Option<String>,
}

/// What happens to a request that hosts would refuse.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::http) enum Mismatch {
    #[default]
    Refuse,
    Send,
}

impl From<Mismatch> for OnMismatch {
    fn from(asked: Mismatch) -> Self {
        match asked {
            Mismatch::Refuse => Self::Refuse,
            Mismatch::Send => Self::Send,
        }
    }
}

/// A command to run again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RetryCommandBody {
    /// 1, to confirm the command. Needed where the ladder of the tenant asks for it.
    confirm_agent_count: Option<u64>,
}

/// How long to wait for the reply.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct PingBody {
    /// At most 60000, default 10000.
    wait_ms: Option<u64>,
}

impl From<PingBody> for CommandBody {
    fn from(body: PingBody) -> Self {
        Self {
            command: "ping".into(),
            data: None,
            wait_ms: body.wait_ms,
            expires_in_ms: None,
            on_mismatch: Mismatch::default(),
            confirm_agent_count: None,
            calendar_override: None,
        }
    }
}

/// The reply of an agent to a transient command.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct CommandResponseView {
    command_id: CommandId,
    success: bool,
    #[schema(value_type = Object)]
    data: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<String>,
}

/// A durable command.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct CommandView {
    id: CommandId,
    agent_id: AgentId,
    /// The job that this execution belongs to.
    job_id: Option<JobId>,
    /// The command that this one runs again.
    retry_of: Option<CommandId>,
    /// Wave of the rollout, counted from 1.
    wave: Option<i32>,
    /// Queued, and not sent until its rollout lifts the hold or another person approves it.
    is_held: bool,
    /// The request for another person's approval, if a rule asked for one.
    approval: Option<WorkApproval>,
    command: String,
    state: CommandState,
    #[schema(value_type = Object)]
    data: Box<RawValue>,
    /// The report of the agent. For an `execute`: exit code, duration, byte counts.
    #[schema(value_type = Option<Object>)]
    result: Option<Value>,
    /// Why it ended as it did.
    error: Option<String>,
    /// Stable code for `error`.
    error_code: Option<String>,
    /// A report that arrived after the command had ended; it does not change the state.
    late_result: Option<LateResult>,
    /// Output committed so far, both streams. Not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    output_bytes: Option<u64>,
    /// When its output was dropped to make room for newer output. Not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dropped_at: Option<Timestamp>,
    requested_by: PrincipalId,
    requested_from: Option<String>,
    timeout_ms: i64,
    created_at: Timestamp,
    /// Null while it is held: its time to expire starts when its rollout lifts the hold.
    expires_at: Option<Timestamp>,
    delivered_at: Option<Timestamp>,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    cancel_requested_at: Option<Timestamp>,
}

/// A report that arrived after the command had ended.
#[derive(Debug, Serialize, ToSchema)]
struct LateResult {
    state: CommandState,
    #[schema(value_type = Object)]
    result: Value,
    error: Option<String>,
    error_code: Option<String>,
    reported_at: Timestamp,
}

impl From<CommandWithReport> for CommandView {
    fn from(found: CommandWithReport) -> Self {
        let CommandWithReport { command: row, report, approval } = found;
        let (report, late) = match report {
            Some(report) if report.is_late => (None, Some(report)),
            report => (report, None),
        };
        let (result, error, error_code) = match report {
            Some(report) => (Some(stored_json(&report.data)), report.error, report.error_code),
            None => {
                let error = row.end_reason.map(|reason| end_sentence(reason, approval.as_ref()));
                (None, error, row.end_reason.map(|reason| reason.as_str().to_owned()))
            }
        };
        let is_held = row.is_held && row.state == CommandState::Queued;
        Self {
            id: row.id,
            agent_id: row.agent_id,
            job_id: row.job_id,
            retry_of: row.retry_of,
            wave: row.wave,
            is_held,
            approval,
            command: row.command,
            state: row.state,
            data: shown_data(row.data),
            result,
            error,
            error_code,
            late_result: late.map(|report| LateResult {
                state: report.outcome,
                result: stored_json(&report.data),
                error: report.error,
                error_code: report.error_code,
                reported_at: report.reported_at,
            }),
            output_bytes: None,
            output_dropped_at: None,
            requested_by: row.requested_by,
            requested_from: row.requested_from,
            timeout_ms: row.timeout_ms,
            created_at: row.created_at,
            expires_at: (row.expires_at != Timestamp::NEVER).then_some(row.expires_at),
            delivered_at: row.delivered_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
            cancel_requested_at: row.cancel_requested_at,
        }
    }
}

impl CommandBody {
    pub(in crate::http) fn into_request(self, idempotency_key: Option<String>) -> CommandRequest {
        CommandRequest {
            command: self.command,
            data: self.data,
            wait_ms: self.wait_ms,
            expires_in_ms: self.expires_in_ms,
            idempotency_key,
            on_mismatch: self.on_mismatch.into(),
            confirmation: self.confirm_agent_count.map(Confirmation::Exactly),
            calendar_override: self.calendar_override,
            retry_of: None,
        }
    }
}

/// 200 with the reply of the agent, or 202 with the stored command.
pub(in crate::http) fn answer(sent: SendResult) -> Response {
    match sent {
        SendResult::Replied { command_id, reply } => axum::Json(CommandResponseView {
            command_id,
            success: reply.success,
            data: reply.data,
            error: reply.error,
            error_code: reply.error_code,
        })
        .into_response(),
        SendResult::Accepted(command) => {
            let location = format!("/api/commands/{}", command.command.id);
            let view = axum::Json(CommandView::from(*command));
            (StatusCode::ACCEPTED, [(header::LOCATION, location)], view).into_response()
        }
    }
}

/// Ping an agent.
#[utoipa::path(post, path = "/api/agents/{id}/ping", tag = "agents",
    params(("id" = uuid::Uuid, Path)), request_body = PingBody,
    responses((status = 200, body = CommandResponseView), (status = 409, body = Problem), (status = 504, body = Problem)))]
async fn ping_agent(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Body(body): Body<PingBody>,
) -> ApiResult<Response> {
    let request = CommandBody::from(body).into_request(None);
    let sent = state.services.commands.send(&caller, AgentId(id), request).await?;
    Ok(answer(sent))
}

/// Send a command to an agent.
#[utoipa::path(post, path = "/api/agents/{id}/command", tag = "agents",
    params(("id" = uuid::Uuid, Path), ("Idempotency-Key" = Option<String>, Header)), request_body = CommandBody,
    responses((status = 200, body = CommandResponseView), (status = 202, body = CommandView), (status = 403, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem), (status = 504, body = Problem), (status = 429, body = Problem)))]
async fn command_agent(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    headers: HeaderMap,
    Body(body): Body<CommandBody>,
) -> ApiResult<Response> {
    let request = body.into_request(idempotency_key(&headers)?);
    let sent = state.services.commands.send(&caller, AgentId(id), request).await?;
    Ok(answer(sent))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct CommandsParams {
    cursor: Option<String>,
    limit: Option<u64>,
    /// Only commands of this agent.
    agent_id: Option<uuid::Uuid>,
    /// Only commands in this state.
    #[param(inline)]
    state: Option<CommandState>,
}

/// List durable commands, newest first. A page may be short; only the last has no `next_cursor`.
#[utoipa::path(get, path = "/api/commands", tag = "commands", params(CommandsParams),
    responses((status = 200, body = PageView<CommandView>)))]
async fn list_commands(
    State(state): State<AppState>,
    caller: Caller,
    Params(params): Params<CommandsParams>,
) -> ApiResult<axum::Json<PageView<CommandView>>> {
    let filter = CommandFilter {
        agent_id: params.agent_id.map(AgentId),
        states: params.state.into_iter().collect(),
        ..CommandFilter::default()
    };
    let page = page(params.cursor.as_deref(), params.limit)?;
    let commands = state.services.commands.list(&caller, filter, page).await?;
    Ok(axum::Json(commands.map(CommandView::from).into()))
}

/// Get one durable command. With `wait_ms`, wait for its end.
#[utoipa::path(get, path = "/api/commands/{id}", tag = "commands",
    params(("id" = uuid::Uuid, Path), WaitParams),
    responses((status = 200, body = CommandView), (status = 404, body = Problem)))]
async fn get_command(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Params(params): Params<WaitParams>,
) -> ApiResult<axum::Json<CommandView>> {
    let wait_ms = params.read()?;
    let found = state.services.commands.get(&caller, CommandId(id), wait_ms).await?;
    let output = state.services.output.summary(&caller, &found).await?;
    let output_bytes = Some(output.length_bytes);
    let output_dropped_at = output.dropped_at;
    Ok(axum::Json(CommandView { output_bytes, output_dropped_at, ..found.into() }))
}

/// Cancel a command. A queued one ends at once; otherwise its agent decides. Repeatable.
#[utoipa::path(post, path = "/api/commands/{id}/cancel", tag = "commands",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 202, body = CommandView), (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn cancel_command(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Body(Empty {}): Body<Empty>,
) -> ApiResult<(StatusCode, axum::Json<CommandView>)> {
    let found = state.services.commands.cancel(&caller, CommandId(id)).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(found.into())))
}

/// Run a command that has ended again, on the same agent with the same parameters, as a new command that names
/// it in `retry_of`. The caller needs the rights for a new request.
#[utoipa::path(post, path = "/api/commands/{id}/retry", tag = "commands", request_body = RetryCommandBody,
    params(("id" = uuid::Uuid, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 202, body = CommandView), (status = 404, body = Problem), (status = 409, body = Problem), (status = 429, body = Problem)))]
async fn retry_command(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    headers: HeaderMap,
    Body(body): Body<RetryCommandBody>,
) -> ApiResult<Response> {
    let key = idempotency_key(&headers)?;
    let confirmation = body.confirm_agent_count.map(Confirmation::Exactly);
    let sent = state.services.commands.retry(&caller, CommandId(id), confirmation, key).await?;
    Ok(answer(sent))
}
