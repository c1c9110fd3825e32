//! `/api/audit`: pages, the signed head, and the check of the hash chain.

use axum::extract::State;
use muster_protocol::audit::{AuditHead, Finding, FindingKind};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::audit_query::{MAX_LINK, filter, position};
use crate::domain::access::audit::LogOwner;
use crate::domain::access::principal::ActorKind;
use crate::domain::access::records::AuditRecord;
use crate::domain::ids::{AuditId, SessionId, TenantId};
use crate::domain::time::Timestamp;
use crate::http::AppState;
use crate::http::extract::{Params, page, within};
use crate::http::problem::{ApiResult, Problem};
use crate::http::views::{PageView, stored_json};
use crate::services::access::audit_log::VerifiedPart;
use crate::services::access::caller::Caller;

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_audit_entries))
        .routes(routes!(get_audit_head))
        .routes(routes!(verify_audit))
}

/// An action and its actor.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuditEntryView {
    id: AuditId,
    /// The number of the link of the hash chain that it belongs to.
    link: u64,
    at: Timestamp,
    #[schema(value_type = ActorKind)]
    actor_kind: String,
    /// An API key, a member or an agent, by `actor_kind`.
    actor_id: Option<uuid::Uuid>,
    /// The name that the actor has now, if it still exists. Not part of the hash chain.
    actor_name: Option<String>,
    /// The session of a member.
    session_id: Option<SessionId>,
    /// Such as `agent_key.create` or `command.submit`.
    action: String,
    subject_kind: String,
    subject_id: Option<uuid::Uuid>,
    /// The name that the subject has now, if it still exists; of a job its script. Not part of the hash
    /// chain.
    subject_name: Option<String>,
    #[schema(value_type = Object)]
    detail: Value,
    /// The client's address.
    source: Option<String>,
}

impl From<AuditRecord> for AuditEntryView {
    fn from(row: AuditRecord) -> Self {
        Self {
            id: row.id,
            link: row.link,
            at: row.at,
            actor_kind: row.actor_kind,
            actor_id: row.actor_id,
            actor_name: row.actor_name,
            session_id: row.session_id,
            action: row.action,
            subject_kind: row.subject_kind,
            subject_id: row.subject_id,
            subject_name: row.subject_name,
            detail: stored_json(&row.detail),
            source: row.source,
        }
    }
}

/// Which entries of the audit log.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct AuditParams {
    /// `tenant` for the log of the tenant, `server` for that of the server itself, which only the operator may
    /// read.
    #[param(inline)]
    #[serde(default)]
    log: LogOwner,
    /// `next_cursor` of the previous page.
    cursor: Option<String>,
    /// Most items of the page: 1 to 500, default 50.
    limit: Option<u64>,
    /// Only what this kind of actor did.
    #[param(inline)]
    actor_kind: Option<ActorKind>,
    /// Only what this API key, member or agent did.
    actor_id: Option<uuid::Uuid>,
    /// Only this action, such as `agent.update`.
    action: Option<String>,
    /// Only what was done to this kind of subject, such as `agent`.
    subject_kind: Option<String>,
    /// Only what was done to this subject.
    subject_id: Option<uuid::Uuid>,
    /// Only entries of this instant or later.
    created_after: Option<String>,
    /// Only entries before this instant.
    created_before: Option<String>,
}

/// List the audit log, newest first. It records every change and every command.
///
/// A page looks at 20,000 entries at most. If few of them match, it is shorter than its limit, or even
/// empty, and its `next_cursor` continues.
#[utoipa::path(get, path = "/api/audit", tag = "audit", params(AuditParams),
    responses((status = 200, body = PageView<AuditEntryView>), (status = 403, body = Problem)))]
async fn list_audit_entries(
    State(state): State<AppState>,
    caller: Caller,
    Params(params): Params<AuditParams>,
) -> ApiResult<axum::Json<PageView<AuditEntryView>>> {
    let before = position("cursor", params.cursor.as_deref())?;
    let limit = page(None, params.limit)?.limit;
    let filter = filter(
        (params.actor_kind, params.actor_id),
        params.action,
        (params.subject_kind, params.subject_id),
        (params.created_after.as_deref(), params.created_before.as_deref()),
    )?;
    let page = state.services.audit_log.list(&caller, params.log, &filter, before, limit).await?;
    Ok(axum::Json(page.map(AuditEntryView::from).into()))
}

/// The last link of the audit log, signed by the server. A person who keeps it can later prove that the log
/// was changed or cut off: `muster audit verify --head FILE`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuditHeadView {
    tenant_id: TenantId,
    /// The number of the link.
    number: u64,
    /// SHA-256 in hex.
    hash: String,
    /// The server's key for audit logs: Ed25519, in base64.
    public_key: String,
    /// In base64.
    signature: String,
}

impl From<AuditHead> for AuditHeadView {
    fn from(head: AuditHead) -> Self {
        Self {
            tenant_id: TenantId(head.tenant_id),
            number: head.number,
            hash: head.hash.to_string(),
            public_key: head.public_key.to_string(),
            signature: head.signature,
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct HeadParams {
    /// `tenant` for the log of the tenant, `server` for that of the server itself, which only the operator may
    /// read.
    #[param(inline)]
    #[serde(default)]
    log: LogOwner,
}

/// Get the signed head of the audit log. Keep it outside of the server.
#[utoipa::path(get, path = "/api/audit/head", tag = "audit", params(HeadParams),
    responses((status = 200, body = AuditHeadView), (status = 403, body = Problem), (status = 404, body = Problem)))]
async fn get_audit_head(
    State(state): State<AppState>,
    caller: Caller,
    Params(params): Params<HeadParams>,
) -> ApiResult<axum::Json<AuditHeadView>> {
    Ok(axum::Json(state.services.audit_log.head(&caller, params.log).await?.into()))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct VerifyParams {
    /// `tenant` for the log of the tenant, `server` for that of the server itself, which only the operator may
    /// read.
    #[param(inline)]
    #[serde(default)]
    log: LogOwner,
    /// `next_after` of the previous part. Default: 0, the start of the log.
    #[serde(default)]
    after: u64,
}

/// What is wrong with the log.
#[derive(Debug, Serialize, ToSchema)]
struct AuditFindingView {
    /// `entry_removed`, `entry_changed`, `entry_inserted`, `entry_moved`, `link_removed`, `link_changed`,
    /// `link_inserted`, `truncated`, `head_mismatch` or `signature_invalid`.
    #[schema(value_type = String)]
    kind: FindingKind,
    /// The number of the link.
    link: u64,
    entry_id: Option<AuditId>,
    /// A sentence for people.
    message: String,
}

impl From<Finding> for AuditFindingView {
    fn from(finding: Finding) -> Self {
        let Finding { kind, link, entry_id, message } = finding;
        Self { kind, link, entry_id: entry_id.map(AuditId), message }
    }
}

/// The result of a check of a part of the log.
#[derive(Debug, Serialize, ToSchema)]
struct AuditVerificationView {
    /// True if nothing is wrong with this part.
    is_intact: bool,
    /// The link before this part.
    after: u64,
    /// The last link of this part.
    last_link: u64,
    /// Links that were checked.
    link_count: u64,
    /// Entries that were checked.
    entry_count: u64,
    /// What is wrong, at most 100 items.
    findings: Vec<AuditFindingView>,
    /// All findings, also those that are not in the list.
    finding_count: u64,
    /// Pass it as `after` for the next part; `null` at the end of the log.
    next_after: Option<u64>,
    /// The head that the log was checked against; `null` while the log is empty.
    head: Option<AuditHeadView>,
}

impl From<VerifiedPart> for AuditVerificationView {
    fn from(part: VerifiedPart) -> Self {
        let last_link = part.chain.last_number;
        Self {
            is_intact: part.chain.finding_count == 0,
            after: part.after,
            last_link,
            link_count: part.chain.links,
            entry_count: part.chain.entries,
            findings: part.chain.findings.into_iter().map(AuditFindingView::from).collect(),
            finding_count: part.chain.finding_count,
            next_after: part.next_after,
            head: part.head.map(AuditHeadView::from),
        }
    }
}

/// Check a part of the audit log against its hash chain.
///
/// A part has 200 links at most. The server reads its own database here: to find out what a person did
/// who controls the server, compare with a head that you keep, by `muster audit verify`.
#[utoipa::path(get, path = "/api/audit/verify", tag = "audit", params(VerifyParams),
    responses((status = 200, body = AuditVerificationView), (status = 403, body = Problem)))]
async fn verify_audit(
    State(state): State<AppState>,
    caller: Caller,
    Params(params): Params<VerifyParams>,
) -> ApiResult<axum::Json<AuditVerificationView>> {
    let after = within("after", params.after, 0..=MAX_LINK)?;
    Ok(axum::Json(state.services.audit_log.verify(&caller, params.log, after).await?.into()))
}
