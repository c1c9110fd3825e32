//! `/api/audit/export` and `/api/audit/live`: the log as lines, and new entries as events.

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::sse::Event;
use axum::response::{IntoResponse as _, Response};
use muster_protocol::audit::{AuditAnchor, AuditHead, AuditLink, EXPORT_FORMAT};
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::audit::AuditEntryView;
use super::audit_query::{filter, position};
use crate::domain::access::audit::LogOwner;
use crate::domain::access::principal::ActorKind;
use crate::domain::ids::TenantId;
use crate::http::AppState;
use crate::http::extract::Params;
use crate::http::problem::{ApiResult, Problem};
use crate::http::sse;
use crate::services::access::audit_log::{ExportLine, FollowedEntry};
use crate::services::access::caller::Caller;

/// Bytes of one part of an export's body.
const PART_BYTES: usize = 32 * 1024;

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(export_audit)).routes(routes!(follow_audit))
}

/// Which entries of the audit log.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ExportParams {
    /// `tenant` for the log of the tenant, `server` for that of the server itself, which only the operator may
    /// read.
    #[param(inline)]
    #[serde(default)]
    log: LogOwner,
    /// Continue behind this position: that of an `end` line, or the number of a link, a dot and the id of an
    /// entry. Without a filter the export starts with a whole link.
    after: Option<String>,
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

/// One line of an export.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum LineView {
    Header {
        format: &'static str,
        tenant_id: TenantId,
        after: u64,
        public_key: Option<String>,
        is_complete: bool,
    },
    Anchor(AuditAnchor),
    Link(AuditLink),
    Entry(Box<AuditEntryView>),
    Head(AuditHead),
    End {
        position: String,
    },
}

impl From<ExportLine> for LineView {
    fn from(line: ExportLine) -> Self {
        match line {
            ExportLine::Header { tenant_id, after, public_key, is_complete } => {
                let public_key = public_key.map(|key| key.to_string());
                Self::Header { format: EXPORT_FORMAT, tenant_id, after, public_key, is_complete }
            }
            ExportLine::Anchor(anchor) => Self::Anchor(anchor),
            ExportLine::Link(link) => Self::Link(link),
            ExportLine::Entry(entry) => Self::Entry(Box::new((*entry).into())),
            ExportLine::Head(head) => Self::Head(head),
            ExportLine::End { position } => Self::End { position: position.to_string() },
        }
    }
}

/// Export the audit log as JSON lines, oldest first.
///
/// The first line is a `header`. If retention removed older entries, a signed `anchor` follows: the link
/// behind which the log starts. Without a filter, each `link` of the hash chain is followed by its
/// `entry` lines, and the last line is the signed `head`: `muster audit verify --from` checks such a file
/// without the server. With a filter there are only `entry` lines, and an `end` with the position to
/// continue from. A body without a `head` or an `end` was cut off.
#[utoipa::path(get, path = "/api/audit/export", tag = "audit", params(ExportParams),
    responses((status = 200, content_type = "application/x-ndjson", body = String), (status = 403, body = Problem)))]
async fn export_audit(
    State(state): State<AppState>,
    caller: Caller,
    Params(params): Params<ExportParams>,
) -> ApiResult<Response> {
    let after = position("after", params.after.as_deref())?;
    let filter = filter(
        (params.actor_kind, params.actor_id),
        params.action,
        (params.subject_kind, params.subject_id),
        (params.created_after.as_deref(), params.created_before.as_deref()),
    )?;
    let export = state.services.audit_log.export(&caller, params.log, filter, after).await?;
    let body = futures_util::stream::try_unfold(export, async |mut export| {
        let mut part = Vec::new();
        while part.len() < PART_BYTES
            && let Some(line) = export.next().await?
        {
            // Plain structures always serialise.
            let _ = serde_json::to_writer(&mut part, &LineView::from(line));
            part.push(b'\n');
        }
        let part = (!part.is_empty()).then(|| Bytes::from(part));
        Ok::<_, crate::store::StoreError>(part.map(|part| (part, export)))
    });
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"audit.ndjson\""),
    ];
    Ok((headers, Body::from_stream(body)).into_response())
}

/// Which entries of the audit log.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct FollowParams {
    /// `tenant` for the log of the tenant, `server` for that of the server itself, which only the operator may
    /// read.
    #[param(inline)]
    #[serde(default)]
    log: LogOwner,
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
}

/// Stream new audit entries as server-sent events.
///
/// The first event is `ready`: every entry that is committed later follows, in the order of the commits.
/// With `Last-Event-ID` the stream continues behind that entry without a `ready`; nothing is missed,
/// because the entries are read from the log.
#[utoipa::path(get, path = "/api/audit/live", tag = "audit",
    params(FollowParams, ("Last-Event-ID" = Option<String>, Header)),
    responses((status = 200, content_type = "text/event-stream", body = AuditEntryView), (status = 400, body = Problem),
        (status = 403, body = Problem), (status = 429, body = Problem)))]
async fn follow_audit(
    State(state): State<AppState>,
    caller: Caller,
    headers: HeaderMap,
    Params(params): Params<FollowParams>,
) -> ApiResult<Response> {
    let filter = filter(
        (params.actor_kind, params.actor_id),
        params.action,
        (params.subject_kind, params.subject_id),
        (None, None),
    )?;
    let after = position("Last-Event-ID", sse::last_event_id(&headers))?;
    let stream = state.services.audit_log.follow(&caller, params.log, filter, after).await?;
    Ok(sse::answer(futures_util::stream::try_unfold(stream, async |mut stream| {
        let event = stream.next().await?;
        Ok::<_, crate::store::StoreError>(event.map(|event| (written(event), stream)))
    })))
}

fn written(event: FollowedEntry) -> Event {
    match event {
        FollowedEntry::Ready(position) => {
            Event::default().event("ready").id(position.to_string()).data("{}")
        }
        FollowedEntry::Entry(entry) => {
            let id = entry.position().to_string();
            sse::as_json("entry", &AuditEntryView::from(*entry)).id(id)
        }
    }
}
