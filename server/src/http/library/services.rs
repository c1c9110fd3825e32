//! `/api/services`: assigned packages that hosts keep running.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::HeaderMap;
use muster_protocol::limits::CANCEL_GRACE_MS;
use muster_protocol::object::Object;
use muster_protocol::package::{RestartPolicy, ServiceSettings};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::domain::commands::ladder::Confirmation;
use crate::domain::fleet::target::TargetSpec;
use crate::domain::ids::AssignmentId;
use crate::domain::library::assignment_records::ServiceAction;
use crate::http::AppState;
use crate::http::extract::{Body, Id, PageParams, Params, page};
use crate::http::problem::{ApiResult, Problem};
use crate::http::views::{PageView, stored_json};
use crate::services::access::caller::Caller;
use crate::services::library::assignments::{ServiceControlRequest, ServiceOverview};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_services))
        .routes(routes!(start_service))
        .routes(routes!(stop_service))
        .routes(routes!(restart_service))
}

/// A service: an assignment of a package that hosts keep running.
#[derive(Debug, Serialize, ToSchema)]
struct ServiceView {
    /// Of the assignment.
    id: AssignmentId,
    name: String,
    #[schema(example = "package:proxy@1.2.0")]
    package: String,
    #[schema(value_type = TargetSpec)]
    target: Value,
    /// Numbers of agents by the state that they reported last: `waiting`, `running`, `stopping`, `backoff`,
    /// `stopped` or `ended`.
    #[schema(example = json!({"running": 3}))]
    state_counts: BTreeMap<String, i64>,
    /// What `[service]` of its package says.
    settings: Option<ServiceSettingsView>,
}

/// How hosts keep a service running.
#[derive(Debug, Serialize, ToSchema)]
struct ServiceSettingsView {
    /// `always`, `on-failure` or `never`: which ends are followed by another start. The delay before it is a
    /// random time of at most 2 s, which doubles with each end in a row up to 5 minutes.
    #[schema(value_type = String, example = "always")]
    restart: RestartPolicy,
    /// Of all its processes together.
    max_memory_bytes: Option<u64>,
    /// Of all its processes together; 100 is one processor.
    max_cpu_percent: Option<u32>,
    /// Newest output that is kept of each run.
    max_log_bytes: u64,
    /// Time from TERM to KILL.
    stop_grace_ms: u64,
    /// Time between two checks of its health; `null` without a check.
    health_interval_ms: Option<u64>,
}

impl From<ServiceSettings> for ServiceSettingsView {
    fn from(settings: ServiceSettings) -> Self {
        Self {
            restart: settings.restart,
            max_memory_bytes: settings.max_memory_bytes,
            max_cpu_percent: settings.max_cpu_percent,
            max_log_bytes: settings.log_bytes(),
            stop_grace_ms: settings.stop_grace_ms.unwrap_or(CANCEL_GRACE_MS),
            health_interval_ms: settings.health.map(|health| health.interval_ms),
        }
    }
}

/// Agents on which a service is started, stopped or restarted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ControlService {
    /// Which agents of the assignment. Default: all of them.
    #[schema(value_type = Option<TargetSpec>)]
    target: Option<Object<TargetSpec>>,
    /// The number of agents, if the ladder of the tenant asks for it.
    confirm_agent_count: Option<u64>,
}

/// How many agents a request about a service reaches.
#[derive(Debug, Serialize, ToSchema)]
struct ControlledService {
    /// Agents that are not connected follow when they are.
    agent_count: u64,
}

impl From<ServiceOverview> for ServiceView {
    fn from(service: ServiceOverview) -> Self {
        Self {
            package: service.row.reference(),
            target: stored_json(&service.row.target),
            id: service.row.id,
            name: service.row.name,
            state_counts: service.counts,
            settings: service.settings.map(Into::into),
        }
    }
}

/// List services, newest first. `/api/assignments/{id}/agents` has the state of each agent.
#[utoipa::path(get, path = "/api/services", tag = "library", params(PageParams),
    responses((status = 200, body = PageView<ServiceView>), (status = 422, body = Problem)))]
async fn list_services(
    State(state): State<AppState>,
    caller: Caller,
    Params(params): Params<PageParams>,
) -> ApiResult<axum::Json<PageView<ServiceView>>> {
    let page = page(params.cursor.as_deref(), params.limit)?;
    let page = state.services.assignments.services(&caller, page).await?;
    Ok(axum::Json(page.map(ServiceView::from).into()))
}

/// Start a service that was stopped. Restart one that has ended.
#[utoipa::path(post, path = "/api/services/{id}/start", tag = "library", params(("id" = uuid::Uuid, Path)),
    request_body = ControlService,
    responses((status = 202, body = ControlledService), (status = 403, body = Problem),
        (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn start_service(
    state: State<AppState>,
    caller: Caller,
    id: Id,
    headers: HeaderMap,
    Body(body): Body<ControlService>,
) -> ApiResult<(axum::http::StatusCode, axum::Json<ControlledService>)> {
    refuse_idempotency_key(&headers)?;
    control(state, caller, id, body, ServiceAction::Start).await
}

/// Stop a service until it is started. It stays stopped after restarts of agent and host.
#[utoipa::path(post, path = "/api/services/{id}/stop", tag = "library", params(("id" = uuid::Uuid, Path)),
    request_body = ControlService,
    responses((status = 202, body = ControlledService), (status = 403, body = Problem),
        (status = 404, body = Problem), (status = 422, body = Problem)))]
async fn stop_service(
    state: State<AppState>,
    caller: Caller,
    id: Id,
    headers: HeaderMap,
    Body(body): Body<ControlService>,
) -> ApiResult<(axum::http::StatusCode, axum::Json<ControlledService>)> {
    refuse_idempotency_key(&headers)?;
    control(state, caller, id, body, ServiceAction::Stop).await
}

/// Restart a service: end its run and start another one. One that is stopped is started.
#[utoipa::path(post, path = "/api/services/{id}/restart", tag = "library", params(("id" = uuid::Uuid, Path)),
    request_body = ControlService,
    responses((status = 202, body = ControlledService), (status = 403, body = Problem),
        (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn restart_service(
    state: State<AppState>,
    caller: Caller,
    id: Id,
    headers: HeaderMap,
    Body(body): Body<ControlService>,
) -> ApiResult<(axum::http::StatusCode, axum::Json<ControlledService>)> {
    refuse_idempotency_key(&headers)?;
    control(state, caller, id, body, ServiceAction::Restart).await
}

/// Who sends the header relies on it, and a repeated restart is another one.
fn refuse_idempotency_key(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.contains_key("idempotency-key") {
        true => Err(Problem::invalid_query(
            "`Idempotency-Key` does not apply to actions on services; leave it out".into(),
        )),
        false => Ok(()),
    }
}

async fn control(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    body: ControlService,
    action: ServiceAction,
) -> ApiResult<(axum::http::StatusCode, axum::Json<ControlledService>)> {
    let request = ServiceControlRequest {
        action,
        target: body.target.map(|target| target.0),
        confirmation: body.confirm_agent_count.map(Confirmation::Exactly),
    };
    let assignments = &state.services.assignments;
    let count = assignments.control_service(&caller, AssignmentId(id), request).await?;
    let agent_count = u64::try_from(count).unwrap_or(u64::MAX);
    Ok((axum::http::StatusCode::ACCEPTED, axum::Json(ControlledService { agent_count })))
}
