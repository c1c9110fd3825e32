//! `/api/tenant/export`

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::AppState;
use crate::http::problem::{ApiResult, Problem};
use crate::services::access::caller::Caller;

const NDJSON: &str = "application/x-ndjson";

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(export_tenant))
}

/// Export everything of the tenant as lines of JSON, without secrets and without the bytes of output.
///
/// Each line is an object with a `type`: `export` first, then the name of a table for each of its rows,
/// and `end` last; without it the export is incomplete. Rows that exist during the whole export are in
/// it, each as it was when it was read.
#[utoipa::path(get, path = "/api/tenant/export", tag = "tenants",
    responses((status = 200, content_type = "application/x-ndjson", body = String), (status = 429, body = Problem)))]
async fn export_tenant(State(state): State<AppState>, caller: Caller) -> ApiResult<Response> {
    let export = state.services.tenant_exports.start(&caller).await?;
    let lines = futures_util::stream::try_unfold(export, async |mut export| {
        let lines = export.next().await?;
        Ok::<_, crate::store::StoreError>(lines.map(|lines| (lines, export)))
    });
    let headers = [
        (header::CONTENT_TYPE, NDJSON),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"tenant.ndjson\""),
    ];
    Ok((headers, Body::from_stream(lines)).into_response())
}
