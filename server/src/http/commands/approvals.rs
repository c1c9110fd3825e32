//! `/api/approvals`

use axum::extract::State;
use muster_protocol::commands::capsule::Capsule;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::domain::access::principal::Scope;
use crate::domain::commands::approval::{ApprovalRecord, ApprovalState, PinnedFile};
use crate::domain::ids::{AgentId, ApprovalId, CommandId, JobId, PrincipalId};
use crate::domain::time::Timestamp;
use crate::http::AppState;
use crate::http::extract::{Body, Id, Params, page};
use crate::http::problem::{ApiResult, Problem};
use crate::http::views::{PageView, shown_value, stored_json};
use crate::services::access::caller::Caller;
use crate::services::commands::approvals::ApprovalSnapshot;

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_approvals))
        .routes(routes!(get_approval))
        .routes(routes!(approve_request))
        .routes(routes!(refuse_request))
}

/// A request for another person's approval.
#[derive(Debug, Serialize, ToSchema)]
struct ApprovalView {
    id: ApprovalId,
    state: ApprovalState,
    /// Names of the rules that asked for it.
    rules: Vec<String>,
    /// The job that waits, if it is one.
    job_id: Option<JobId>,
    /// The command that waits, if it is one.
    command_id: Option<CommandId>,
    /// `execute`, or a life-cycle command.
    command: String,
    /// Absent for ad-hoc and life-cycle commands.
    #[serde(skip_serializing_if = "Option::is_none")]
    script: Option<String>,
    /// Data of the command: parameters, words of an ad-hoc command, version. Without secret parameters, and with
    /// `stdin_bytes` instead of standard input.
    #[schema(value_type = Object)]
    data: Value,
    agent_count: i64,
    /// SHA-256 over the sorted ids of the agents.
    agents_sha256: String,
    /// SHA-256 over the data, and a keyed digest of secret parameters.
    parameters_sha256: String,
    /// SHA-256 over what the hosts reported about the script. An approval is refused if they report
    /// something else by then.
    script_sha256: Option<String>,
    /// The files that the manifests of the hosts require.
    files: Vec<PinnedFile>,
    requested_by: PrincipalId,
    /// Current name of the key or person that requested it.
    requested_by_name: Option<String>,
    requested_from: Option<String>,
    created_at: Timestamp,
    /// When the request ends without a decision.
    expires_at: Timestamp,
    decided_by: Option<PrincipalId>,
    /// Current name of the key or person that decided.
    decided_by_name: Option<String>,
    decided_at: Option<Timestamp>,
    reason: Option<String>,
}

/// A request with the agents of its work.
#[derive(Debug, Serialize, ToSchema)]
struct ApprovalDetailView {
    #[serde(flatten)]
    view: ApprovalView,
    agent_ids: Vec<AgentId>,
    /// Their current names, in the same order; null for an agent that was deleted.
    agent_names: Vec<Option<String>>,
    /// The commands of the work, as an approver signs them.
    commands: Vec<WorkToSignView>,
}

/// One command of the work.
#[derive(Debug, Serialize, ToSchema)]
struct WorkToSignView {
    command_id: CommandId,
    agent_id: AgentId,
    /// The fingerprint of the host's key pair. Absent for a host without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    host_fingerprint: Option<String>,
    /// SHA-256 that the manifest of the host requires of the script's file, while the request is
    /// pending. Absent if it requires none.
    #[serde(skip_serializing_if = "Option::is_none")]
    program_sha256: Option<String>,
    /// Of work with steps, as `program_sha256` for each: null also for an ad-hoc command.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    step_programs_sha256: Vec<Option<String>>,
}

/// What an approver has signed about one command. Hosts that name approvers in their policy check it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CapsuleBody {
    /// JSON, byte for byte as it was signed.
    document: String,
    /// base64, by the approver's key.
    signature: String,
}

impl From<ApprovalRecord> for ApprovalView {
    fn from(row: ApprovalRecord) -> Self {
        Self {
            id: row.id,
            state: row.state,
            rules: row.rules,
            job_id: row.job_id,
            command_id: row.command_id,
            command: row.command,
            script: row.script.filter(|script| !script.is_empty()),
            data: shown_value(&row.data),
            agent_count: row.agent_count,
            agents_sha256: row.pinned.agents_sha256,
            parameters_sha256: row.pinned.parameters_sha256,
            script_sha256: row.pinned.script_sha256,
            files: row.pinned.files,
            requested_by: row.requested_by,
            requested_by_name: row.requested_by_name,
            requested_from: row.requested_from,
            created_at: row.created_at,
            expires_at: row.expires_at,
            decided_by: row.decided_by,
            decided_by_name: row.decided_by_name,
            decided_at: row.decided_at,
            reason: row.reason,
        }
    }
}

impl From<ApprovalSnapshot> for ApprovalDetailView {
    fn from(found: ApprovalSnapshot) -> Self {
        let agent_ids = found.work.iter().map(|work| work.agent_id).collect();
        let commands = found.work.into_iter().map(|work| WorkToSignView {
            command_id: work.command_id,
            agent_id: work.agent_id,
            host_fingerprint: work.host_fingerprint.map(|fingerprint| fingerprint.to_string()),
            program_sha256: work.program_sha256,
            step_programs_sha256: work.step_programs_sha256,
        });
        let (commands, agent_names) = (commands.collect(), found.agent_names);
        Self { view: found.row.into(), agent_ids, agent_names, commands }
    }
}

impl ApprovalDetailView {
    /// The request as this caller may see it. Who may decide about it sees standard input until it is decided,
    /// because it is part of what runs, and of what approvers sign.
    fn new(found: ApprovalSnapshot, caller: &Caller) -> Self {
        let is_open = found.row.state == ApprovalState::Pending;
        let data = match is_open && caller.principal.may(Scope::ApprovalsDecide) {
            true => stored_json(&found.row.data),
            false => shown_value(&found.row.data),
        };
        let detail = Self::from(found);
        Self { view: ApprovalView { data, ..detail.view }, ..detail }
    }
}

/// Which requests to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ApprovalParams {
    /// Only requests in this state. Default: all, also those that ended.
    #[param(inline)]
    state: Option<ApprovalState>,
    /// `next_cursor` of the previous page.
    cursor: Option<String>,
    /// Most items of the page: 1 to 500, default 50.
    limit: Option<u64>,
}

/// The reason for the decision.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DecisionBody {
    /// 1 to 500 characters. Required to refuse.
    reason: Option<String>,
}

/// A yes, with or without signatures.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ApproveBody {
    /// 1 to 500 characters.
    reason: Option<String>,
    /// One for each command of the work, at most 1,000. Needed for hosts whose policy names approvers;
    /// they refuse work without it.
    #[serde(default)]
    capsules: Vec<CapsuleBody>,
}

/// List requests for approval, newest first. Requests that ended stay in the list.
#[utoipa::path(get, path = "/api/approvals", tag = "approvals", params(ApprovalParams),
    responses((status = 200, body = PageView<ApprovalView>)))]
async fn list_approvals(
    State(state): State<AppState>,
    caller: Caller,
    Params(params): Params<ApprovalParams>,
) -> ApiResult<axum::Json<PageView<ApprovalView>>> {
    let page = page(params.cursor.as_deref(), params.limit)?;
    let page = state.services.approvals.list(&caller, params.state, page).await?;
    Ok(axum::Json(page.map(ApprovalView::from).into()))
}

/// Get a request for approval with the agents of its work.
///
/// While the request is pending, its data has standard input (`stdin`) for callers with `approvals:decide`.
#[utoipa::path(get, path = "/api/approvals/{id}", tag = "approvals",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = ApprovalDetailView), (status = 404, body = Problem)))]
async fn get_approval(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> ApiResult<axum::Json<ApprovalDetailView>> {
    let found = state.services.approvals.get(&caller, ApprovalId(id)).await?;
    Ok(axum::Json(ApprovalDetailView::new(found, &caller)))
}

/// Approve a request. Its work is released exactly as it was requested.
///
/// A person can't approve an own request: a key counts as the person who created or rotated it, and so do all
/// keys of that person. The limits of the caller's key apply to the work.
#[utoipa::path(post, path = "/api/approvals/{id}/approve", tag = "approvals",
    params(("id" = uuid::Uuid, Path)), request_body = ApproveBody,
    responses((status = 200, body = ApprovalDetailView), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn approve_request(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Body(body): Body<ApproveBody>,
) -> ApiResult<axum::Json<ApprovalDetailView>> {
    let capsule =
        |body: CapsuleBody| Capsule { document: body.document, signature: body.signature };
    let capsules = body.capsules.into_iter().map(capsule).collect();
    let approvals = &state.services.approvals;
    let decided = approvals.approve(&caller, ApprovalId(id), body.reason, capsules).await?;
    Ok(axum::Json(decided.into()))
}

/// Refuse a request. Its work ends and is never sent.
#[utoipa::path(post, path = "/api/approvals/{id}/refuse", tag = "approvals",
    params(("id" = uuid::Uuid, Path)), request_body = DecisionBody,
    responses((status = 200, body = ApprovalDetailView), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn refuse_request(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Body(body): Body<DecisionBody>,
) -> ApiResult<axum::Json<ApprovalDetailView>> {
    let decided = state.services.approvals.refuse(&caller, ApprovalId(id), body.reason).await?;
    Ok(axum::Json(decided.into()))
}
