//! `/api/agents/{id}/metrics` and `/events`: what was recorded about an agent over time.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::domain::fleet::agent::AgentEventKind;
use crate::domain::fleet::records::{AgentEventRecord, TelemetryRecord};
use crate::domain::ids::{AgentId, EventId};
use crate::domain::time::Timestamp;
use crate::http::AppState;
use crate::http::extract::{Id, PageParams, Params, within};
use crate::http::problem::{ApiResult, Problem};
use crate::http::views::PageView;
use crate::services::access::caller::Caller;

/// Most samples in one response: a day of heartbeats.
pub(in crate::http) const MAX_SAMPLES: u64 = 3_000;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list_agent_metrics)).routes(routes!(list_agent_events))
}

/// The telemetry of one heartbeat.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TelemetrySampleView {
    at: Timestamp,
    cpu_percent: Option<f64>,
    memory_percent: Option<f64>,
    disk_percent: Option<f64>,
    uptime_seconds: Option<f64>,
    load_1m: Option<f64>,
    running_executions: Option<f64>,
}

#[derive(Debug, Serialize, ToSchema)]
struct MetricsView {
    /// Oldest first.
    items: Vec<TelemetrySampleView>,
}

#[derive(Debug, Serialize, ToSchema)]
struct AgentEventView {
    id: EventId,
    kind: AgentEventKind,
    detail: Option<String>,
    at: Timestamp,
}

impl From<TelemetryRecord> for TelemetrySampleView {
    fn from(row: TelemetryRecord) -> Self {
        Self {
            at: row.at,
            cpu_percent: row.cpu_percent,
            memory_percent: row.memory_percent,
            disk_percent: row.disk_percent,
            uptime_seconds: row.uptime_seconds,
            load_1m: row.load_1m,
            running_executions: row.running_executions,
        }
    }
}

impl From<AgentEventRecord> for AgentEventView {
    fn from(row: AgentEventRecord) -> Self {
        Self { id: row.id, kind: row.kind, detail: row.detail, at: row.at }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct MetricsParams {
    /// RFC 3339. Telemetry is kept for 24 h.
    since: Option<Timestamp>,
    /// Return this many of the newest samples, from 1 to 3000.
    limit: Option<u64>,
}

/// List an agent's telemetry of the last 24 h, oldest first.
#[utoipa::path(get, path = "/api/agents/{id}/metrics", tag = "agents",
    params(("id" = uuid::Uuid, Path), MetricsParams),
    responses((status = 200, body = MetricsView), (status = 404, body = Problem)))]
async fn list_agent_metrics(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Params(params): Params<MetricsParams>,
) -> ApiResult<axum::Json<MetricsView>> {
    let since = params.since.unwrap_or_default();
    let limit = within("limit", params.limit.unwrap_or(MAX_SAMPLES), 1..=MAX_SAMPLES)?;
    let rows = state.services.agents.telemetry(&caller, AgentId(id), since, limit).await?;
    Ok(axum::Json(MetricsView { items: rows.into_iter().map(TelemetrySampleView::from).collect() }))
}

/// List an agent's events, newest first: online, offline, alerts.
#[utoipa::path(get, path = "/api/agents/{id}/events", tag = "agents",
    params(("id" = uuid::Uuid, Path), PageParams),
    responses((status = 200, body = PageView<AgentEventView>), (status = 404, body = Problem)))]
async fn list_agent_events(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Params(params): Params<PageParams>,
) -> ApiResult<axum::Json<PageView<AgentEventView>>> {
    let page = state.services.agents.events(&caller, AgentId(id), params.read()?).await?;
    Ok(axum::Json(page.map(AgentEventView::from).into()))
}
