//! `/api/audit`

use axum::extract::State;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::domain::access::principal::ActorKind;
use crate::domain::access::records::AuditRecord;
use crate::domain::ids::{AuditId, SessionId};
use crate::domain::time::Timestamp;
use crate::http::AppState;
use crate::http::extract::{PageParams, Params};
use crate::http::problem::{ApiResult, Problem};
use crate::http::views::{PageView, stored_json};
use crate::services::access::caller::Caller;

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list_audit_entries))
}

/// An action and its actor.
#[derive(Debug, Serialize, ToSchema)]
struct AuditEntryView {
    id: AuditId,
    at: Timestamp,
    actor_kind: ActorKind,
    /// An API key, a member or an agent, by `actor_kind`.
    actor_id: Option<uuid::Uuid>,
    /// The session of a member.
    session_id: Option<SessionId>,
    /// Such as `agent_key.create` or `command.submit`.
    action: String,
    subject_kind: String,
    subject_id: Option<uuid::Uuid>,
    #[schema(value_type = Object)]
    detail: Value,
    /// The client's address.
    source: Option<String>,
}

impl From<AuditRecord> for AuditEntryView {
    fn from(row: AuditRecord) -> Self {
        Self {
            id: row.id,
            at: row.at,
            actor_kind: row.actor_kind,
            actor_id: row.actor_id,
            session_id: row.session_id,
            action: row.action,
            subject_kind: row.subject_kind,
            subject_id: row.subject_id,
            detail: stored_json(&row.detail),
            source: row.source,
        }
    }
}

/// List the audit log, newest first. It records every change and every command.
#[utoipa::path(get, path = "/api/audit", tag = "audit", params(PageParams),
    responses((status = 200, body = PageView<AuditEntryView>), (status = 403, body = Problem)))]
async fn list_audit_entries(
    State(state): State<AppState>,
    caller: Caller,
    Params(params): Params<PageParams>,
) -> ApiResult<axum::Json<PageView<AuditEntryView>>> {
    let page = state.services.audit_log.list(&caller, params.read()?).await?;
    Ok(axum::Json(page.map(AuditEntryView::from).into()))
}
