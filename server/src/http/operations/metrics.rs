//! `/metrics`, and the metrics of requests.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::AppState;
use crate::http::extract::DegradedCaller;
use crate::http::problem::{ApiResult, Problem};
use crate::metrics::MetricsFormat;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(get_metrics))
}

/// Get the metrics of the whole server for Prometheus.
///
/// The format is OpenMetrics. A request that prefers `text/plain` in `Accept` gets Prometheus' own
/// text format.
///
/// Needs the scope `metrics:read`, which belongs to the operator of the server: only the first key has
/// it, and keys that were created with it. Configure the key as Prometheus' `authorization` credentials.
/// While the database is unavailable, `muster_database_up` is 0, and metrics that need the database
/// are missing.
#[utoipa::path(get, path = "/metrics", tag = "server",
    responses((status = 200, content(
            (String = "application/openmetrics-text"), (String = "text/plain"))),
        (status = 401, body = Problem), (status = 403, body = Problem)))]
async fn get_metrics(
    State(state): State<AppState>,
    DegradedCaller(caller): DegradedCaller,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let format = preferred(accepted);
    let content_type = match format {
        MetricsFormat::OpenMetrics => OPEN_METRICS,
        MetricsFormat::Classic => CLASSIC,
    };
    let text = state.services.monitoring.text(&caller, format).await?;
    Ok(([(header::CONTENT_TYPE, content_type)], text).into_response())
}

/// The format that `Accept` prefers. Without a preference: OpenMetrics.
fn preferred<'a>(accepted: impl Iterator<Item = &'a str>) -> MetricsFormat {
    let (mut open, mut classic) = (0.0, 0.0);
    for range in accepted.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let quality = parts.find_map(|part| part.strip_prefix("q=")).map_or(Ok(1.0), str::parse);
        let quality: f64 = quality.unwrap_or(0.0);
        match kind.as_str() {
            "application/openmetrics-text" => open = quality.max(open),
            "text/plain" | "text/*" => classic = quality.max(classic),
            _ => {}
        }
    }
    if classic > open { MetricsFormat::Classic } else { MetricsFormat::OpenMetrics }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preferred_format_is_chosen_and_open_metrics_otherwise() {
        let open = [
            "",
            "*/*",
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "text/plain, application/openmetrics-text",
            "text/plain;q=0",
            "text/plain;q=a",
        ];
        for accept in open {
            assert_eq!(preferred([accept].into_iter()), MetricsFormat::OpenMetrics, "{accept}");
        }
        let classic = [
            "text/plain",
            "Text/Plain; version=0.0.4, */*",
            "application/openmetrics-text;q=0.2, text/*;q=0.3",
        ];
        for accept in classic {
            assert_eq!(preferred([accept].into_iter()), MetricsFormat::Classic, "{accept}");
        }
        let both = ["application/openmetrics-text;q=0.1", "text/plain"];
        assert_eq!(preferred(both.into_iter()), MetricsFormat::Classic);
    }
}
