//! `/api/schedules`

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::views::{RunBody, RunView, ScheduleBody, ScheduleView, SimulateBody, SnoozeBody};
use crate::domain::ids::ScheduleId;
use crate::domain::schedules::simulation::Simulation;
use crate::http::AppState;
use crate::http::extract::{Body, Empty, Id, PageParams, Params, idempotency_key};
use crate::http::problem::{ApiResult, Problem};
use crate::http::views::PageView;
use crate::services::access::caller::Caller;

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_schedules, create_schedule))
        .routes(routes!(get_schedule, update_schedule, delete_schedule))
        .routes(routes!(enable_schedule))
        .routes(routes!(disable_schedule))
        .routes(routes!(run_schedule))
        .routes(routes!(snooze_schedule))
        .routes(routes!(simulate_schedules))
        .merge(super::fires::routes())
        .merge(super::trigger_states::routes())
}

/// List schedules, oldest first.
#[utoipa::path(get, path = "/api/schedules", tag = "schedules", params(PageParams),
    responses((status = 200, body = PageView<ScheduleView>)))]
async fn list_schedules(
    State(state): State<AppState>,
    caller: Caller,
    Params(params): Params<PageParams>,
) -> ApiResult<axum::Json<PageView<ScheduleView>>> {
    let page = state.services.schedules.list(&caller, params.read()?).await?;
    Ok(axum::Json(page.map(|row| ScheduleView::new(row, &caller)).into()))
}

/// Create a schedule. `name`, `rule` and `job` are required. Its jobs run with the rights of the
/// caller, who must be able to submit the job.
#[utoipa::path(post, path = "/api/schedules", tag = "schedules", request_body = ScheduleBody,
    responses((status = 201, body = ScheduleView), (status = 403, body = Problem), (status = 409, body = Problem),
        (status = 422, body = Problem)))]
async fn create_schedule(
    State(state): State<AppState>,
    caller: Caller,
    Body(body): Body<ScheduleBody>,
) -> ApiResult<Response> {
    let schedule = state.services.schedules.create(&caller, body.into()).await?;
    let location = [(header::LOCATION, format!("/api/schedules/{}", schedule.row.id))];
    let view = axum::Json(ScheduleView::new(schedule, &caller));
    Ok((StatusCode::CREATED, location, view).into_response())
}

/// Get a schedule.
#[utoipa::path(get, path = "/api/schedules/{id}", tag = "schedules", params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = ScheduleView), (status = 404, body = Problem)))]
async fn get_schedule(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> ApiResult<axum::Json<ScheduleView>> {
    let found = state.services.schedules.get(&caller, ScheduleId(id)).await?;
    Ok(axum::Json(ScheduleView::new(found, &caller)))
}

/// Change a schedule. The caller becomes its owner, with whose rights its jobs run, unless only the name
/// changes. Due times that have come are decided by the previous rule first.
#[utoipa::path(patch, path = "/api/schedules/{id}", tag = "schedules", params(("id" = uuid::Uuid, Path)),
    request_body = ScheduleBody,
    responses((status = 200, body = ScheduleView), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn update_schedule(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Body(body): Body<ScheduleBody>,
) -> ApiResult<axum::Json<ScheduleView>> {
    let schedule = state.services.schedules.update(&caller, ScheduleId(id), body.into()).await?;
    Ok(axum::Json(ScheduleView::new(schedule, &caller)))
}

/// Delete a schedule with its fires. Its jobs stay.
#[utoipa::path(delete, path = "/api/schedules/{id}", tag = "schedules", params(("id" = uuid::Uuid, Path)),
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem)))]
async fn delete_schedule(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> ApiResult<StatusCode> {
    state.services.schedules.delete(&caller, ScheduleId(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Enable a schedule that is disabled or stopped. If its owner is not valid any more, the caller becomes
/// its owner. Times that passed meanwhile are not due any more. Repeatable.
#[utoipa::path(post, path = "/api/schedules/{id}/enable", tag = "schedules", params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = ScheduleView), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
async fn enable_schedule(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Body(Empty {}): Body<Empty>,
) -> ApiResult<axum::Json<ScheduleView>> {
    let changed = state.services.schedules.enable(&caller, ScheduleId(id)).await?;
    Ok(axum::Json(ScheduleView::new(changed, &caller)))
}

/// Disable a schedule. Fires that have no job yet are skipped, and jobs continue. Repeatable.
#[utoipa::path(post, path = "/api/schedules/{id}/disable", tag = "schedules", params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = ScheduleView), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
async fn disable_schedule(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Body(Empty {}): Body<Empty>,
) -> ApiResult<axum::Json<ScheduleView>> {
    let changed = state.services.schedules.disable(&caller, ScheduleId(id)).await?;
    Ok(axum::Json(ScheduleView::new(changed, &caller)))
}

/// Snooze a schedule until an instant: its due times before are skipped, each with a record. Without
/// `until`, it is not snoozed any more.
#[utoipa::path(post, path = "/api/schedules/{id}/snooze", tag = "schedules", params(("id" = uuid::Uuid, Path)),
    request_body = SnoozeBody,
    responses((status = 200, body = ScheduleView), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn snooze_schedule(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Body(body): Body<SnoozeBody>,
) -> ApiResult<axum::Json<ScheduleView>> {
    let schedules = &state.services.schedules;
    let changed = schedules.snooze(&caller, ScheduleId(id), body.until).await?;
    Ok(axum::Json(ScheduleView::new(changed, &caller)))
}

/// Simulate a schedule, or all that are active, for up to two years: changes of the clocks, times that
/// calendars block, schedules that are due at once, and the busiest hours. Without jitter, and without
/// calendars that hold for some agents only.
#[utoipa::path(post, path = "/api/schedules/simulate", tag = "schedules", request_body = SimulateBody,
    responses((status = 200, body = Simulation), (status = 404, body = Problem), (status = 422, body = Problem)))]
async fn simulate_schedules(
    State(state): State<AppState>,
    caller: Caller,
    Body(body): Body<SimulateBody>,
) -> ApiResult<axum::Json<Simulation>> {
    let schedules = &state.services.schedules;
    let simulation = schedules.simulate(&caller, body.schedule_id, body.from, body.for_ms).await?;
    Ok(axum::Json(simulation))
}

/// Run a schedule's job now, with the rights of the caller, also if the schedule is disabled or its
/// previous job has not ended.
#[utoipa::path(post, path = "/api/schedules/{id}/run", tag = "schedules",
    params(("id" = uuid::Uuid, Path), ("Idempotency-Key" = Option<String>, Header)), request_body = RunBody,
    responses((status = 202, body = RunView), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem),
        (status = 422, body = Problem), (status = 429, body = Problem)))]
async fn run_schedule(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    headers: HeaderMap,
    Body(body): Body<RunBody>,
) -> ApiResult<Response> {
    let key = idempotency_key(&headers)?;
    let schedules = &state.services.schedules;
    let (reason, is_forced) = (body.calendar_override, body.force);
    let job_id = schedules.run(&caller, ScheduleId(id), key, reason, is_forced).await?;
    let location = [(header::LOCATION, format!("/api/jobs/{job_id}"))];
    Ok((StatusCode::ACCEPTED, location, axum::Json(RunView { job_id })).into_response())
}
