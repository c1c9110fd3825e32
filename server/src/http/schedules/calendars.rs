//! `/api/calendars`: when work may start.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use muster_protocol::object::Object;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::domain::fleet::target::TargetSpec;
use crate::domain::ids::{CalendarId, PrincipalId, ScheduleId};
use crate::domain::schedules::calendar::{CalendarRecord, EntrySpec};
use crate::domain::time::Timestamp;
use crate::http::AppState;
use crate::http::extract::{Body, Id};
use crate::http::problem::{ApiResult, Problem};
use crate::http::views::stored_json;
use crate::services::access::caller::Caller;
use crate::services::schedules::calendars::CalendarRequest;

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list_calendars, create_calendar)).routes(routes!(
        get_calendar,
        update_calendar,
        delete_calendar
    ))
}

/// Changes to a calendar. Missing fields keep their values.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CalendarBody {
    name: Option<String>,
    /// IANA name of the zone of dates and times. Default: UTC.
    #[schema(example = "Europe/Berlin")]
    time_zone: Option<String>,
    #[schema(value_type = Option<Vec<EntrySpec>>)]
    entries: Option<Vec<Object<EntrySpec>>>,
    /// Holds only for work on these agents; `null` removes it.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<TargetSpec>)]
    target: Option<Option<Object<TargetSpec>>>,
    /// Holds only for these schedules. Without both it holds for all work of the tenant.
    schedule_ids: Option<Vec<ScheduleId>>,
}

/// A calendar.
#[derive(Debug, Serialize, ToSchema)]
struct CalendarView {
    id: CalendarId,
    name: String,
    time_zone: String,
    #[schema(value_type = Vec<EntrySpec>)]
    entries: Value,
    #[schema(value_type = Option<TargetSpec>)]
    target: Option<Value>,
    #[schema(value_type = Vec<ScheduleId>)]
    schedule_ids: Value,
    created_by: PrincipalId,
    created_at: Timestamp,
    changed_at: Timestamp,
}

/// The calendars of a tenant, which has at most 100.
#[derive(Debug, Serialize, ToSchema)]
struct CalendarsView {
    items: Vec<CalendarView>,
}

/// Distinguishes `null` from a missing field.
fn present<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<Object<TargetSpec>>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl From<CalendarBody> for CalendarRequest {
    fn from(body: CalendarBody) -> Self {
        let entries =
            |entries: Vec<Object<EntrySpec>>| entries.into_iter().map(|entry| entry.0).collect();
        Self {
            name: body.name,
            time_zone: body.time_zone,
            entries: body.entries.map(entries),
            target: body.target.map(|target| target.map(|target| target.0)),
            schedule_ids: body.schedule_ids,
        }
    }
}

impl From<CalendarRecord> for CalendarView {
    fn from(row: CalendarRecord) -> Self {
        Self {
            id: row.id,
            name: row.name,
            time_zone: row.time_zone,
            entries: stored_json(&row.entries),
            target: row.target.as_deref().map(stored_json),
            schedule_ids: stored_json(&row.schedule_ids),
            created_by: row.created_by,
            created_at: row.created_at,
            changed_at: row.changed_at,
        }
    }
}

/// List all calendars, oldest first.
#[utoipa::path(get, path = "/api/calendars", tag = "calendars",
    responses((status = 200, body = CalendarsView)))]
async fn list_calendars(
    State(state): State<AppState>,
    caller: Caller,
) -> ApiResult<axum::Json<CalendarsView>> {
    let calendars = state.services.calendars.list(&caller).await?;
    let items = calendars.into_iter().map(CalendarView::from).collect();
    Ok(axum::Json(CalendarsView { items }))
}

/// Create a calendar. `name` and `entries` are required. It holds for work that starts after the answer;
/// jobs that run continue.
#[utoipa::path(post, path = "/api/calendars", tag = "calendars", request_body = CalendarBody,
    responses((status = 201, body = CalendarView), (status = 403, body = Problem), (status = 409, body = Problem),
        (status = 422, body = Problem)))]
async fn create_calendar(
    State(state): State<AppState>,
    caller: Caller,
    Body(body): Body<CalendarBody>,
) -> ApiResult<Response> {
    let calendar = state.services.calendars.create(&caller, body.into()).await?;
    let location = [(header::LOCATION, format!("/api/calendars/{}", calendar.id))];
    Ok((StatusCode::CREATED, location, axum::Json(CalendarView::from(calendar))).into_response())
}

/// Get a calendar.
#[utoipa::path(get, path = "/api/calendars/{id}", tag = "calendars", params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = CalendarView), (status = 404, body = Problem)))]
async fn get_calendar(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> ApiResult<axum::Json<CalendarView>> {
    Ok(axum::Json(state.services.calendars.get(&caller, CalendarId(id)).await?.into()))
}

/// Change a calendar.
#[utoipa::path(patch, path = "/api/calendars/{id}", tag = "calendars", params(("id" = uuid::Uuid, Path)),
    request_body = CalendarBody,
    responses((status = 200, body = CalendarView), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn update_calendar(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Body(body): Body<CalendarBody>,
) -> ApiResult<axum::Json<CalendarView>> {
    let calendars = &state.services.calendars;
    Ok(axum::Json(calendars.update(&caller, CalendarId(id), body.into()).await?.into()))
}

/// Delete a calendar.
#[utoipa::path(delete, path = "/api/calendars/{id}", tag = "calendars", params(("id" = uuid::Uuid, Path)),
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem)))]
async fn delete_calendar(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> ApiResult<StatusCode> {
    state.services.calendars.delete(&caller, CalendarId(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}
