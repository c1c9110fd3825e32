//! `/metrics`, and the metrics of requests.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::AppState;
use crate::http::extract::DegradedCaller;
use crate::http::problem::{ApiResult, Problem};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(get_metrics))
}

/// Metrics of the whole server for Prometheus, in the OpenMetrics text format.
///
/// Needs the scope `metrics:read`, which belongs to the operator of the server: only the first key has
/// it, and keys that were created with it. Configure the key as Prometheus' `authorization` credentials.
/// While the database is unavailable, `muster_database_up` is 0, and metrics that need the database
/// are missing.
#[utoipa::path(get, path = "/metrics", tag = "server",
    responses((status = 200, body = String, content_type = "application/openmetrics-text"),
        (status = 401, body = Problem), (status = 403, body = Problem)))]
async fn get_metrics(
    State(state): State<AppState>,
    DegradedCaller(caller): DegradedCaller,
) -> ApiResult<Response> {
    let text = state.services.monitoring.text(&caller).await?;
    Ok(([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response())
}

/// Counts a request under its route template, because paths may contain ids and names.
pub(in crate::http) async fn measure(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let started = Instant::now();
    let response = next.run(request).await;
    let route = route.as_ref().map_or("(none)", MatchedPath::as_str);
    let status = response.status().as_u16();
    let http = state.services.monitoring.http();
    http.answered(method.as_str(), route, status, started.elapsed());
    response
}
