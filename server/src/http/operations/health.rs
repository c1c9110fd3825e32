//! `/healthz` and `/readyz`

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::AppState;
use crate::http::problem::{ApiResult, Problem};

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(get_health)).routes(routes!(get_readiness))
}

#[derive(Debug, Serialize, ToSchema)]
struct HealthView {
    status: &'static str,
    version: &'static str,
}

const OK: axum::Json<HealthView> =
    axum::Json(HealthView { status: "ok", version: env!("CARGO_PKG_VERSION") });

/// The process is running. Checks nothing else.
#[utoipa::path(get, path = "/healthz", tag = "health", security(()),
    responses((status = 200, body = HealthView)))]
async fn get_health() -> axum::Json<HealthView> {
    OK
}

/// The server is ready: its database can be read and written. Checked at most once a second.
#[utoipa::path(get, path = "/readyz", tag = "health", security(()),
    responses((status = 200, body = HealthView), (status = 503, body = Problem)))]
async fn get_readiness(State(state): State<AppState>) -> ApiResult<axum::Json<HealthView>> {
    state.services.readiness.check().await?;
    Ok(OK)
}
