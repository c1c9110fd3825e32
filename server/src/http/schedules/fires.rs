//! `/api/schedules/{id}/fires`, and previews.

use axum::extract::State;
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::views::{FireView, RulePreviewBody, RulePreviewView};
use crate::domain::ids::ScheduleId;
use crate::http::AppState;
use crate::http::extract::{Body, Id, PageParams, Params};
use crate::http::problem::{ApiResult, Problem};
use crate::http::views::PageView;
use crate::services::access::caller::Caller;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_fires))
        .routes(routes!(preview_schedule))
        .routes(routes!(preview_rule))
}

/// How much to preview.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct PreviewParams {
    /// Due times to compute: 1 to 100, default 10.
    count: Option<u64>,
}

/// List the fires of a schedule, newest first: planned against actual.
#[utoipa::path(get, path = "/api/schedules/{id}/fires", tag = "schedules",
    params(("id" = uuid::Uuid, Path), PageParams),
    responses((status = 200, body = PageView<FireView>), (status = 404, body = Problem)))]
async fn list_fires(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Params(params): Params<PageParams>,
) -> ApiResult<axum::Json<PageView<FireView>>> {
    let page = state.services.schedules.fires(&caller, ScheduleId(id), params.read()?).await?;
    Ok(axum::Json(page.map(FireView::from).into()))
}

/// Preview the next due times of a schedule, enabled or not, without jitter.
#[utoipa::path(get, path = "/api/schedules/{id}/preview", tag = "schedules",
    params(("id" = uuid::Uuid, Path), PreviewParams),
    responses((status = 200, body = RulePreviewView), (status = 404, body = Problem)))]
async fn preview_schedule(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Params(params): Params<PreviewParams>,
) -> ApiResult<axum::Json<RulePreviewView>> {
    let preview = state.services.schedules.preview(&caller, ScheduleId(id), params.count).await?;
    Ok(axum::Json(preview.into()))
}

/// Preview the next due times of a rule that is not stored.
#[utoipa::path(post, path = "/api/schedules/preview", tag = "schedules", request_body = RulePreviewBody,
    responses((status = 200, body = RulePreviewView), (status = 422, body = Problem)))]
async fn preview_rule(
    State(state): State<AppState>,
    caller: Caller,
    Body(body): Body<RulePreviewBody>,
) -> ApiResult<axum::Json<RulePreviewView>> {
    let limits = (body.starts_at, body.ends_at);
    let preview =
        state.services.schedules.preview_rule(&caller, body.rule.0, limits, body.count)?;
    Ok(axum::Json(preview.into()))
}
