//! `/api/executions`: executions and their results. Each is a command with the same id.

pub(super) mod query;
mod view;

use axum::extract::State;
use axum::http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::query::{ExecutionsQuery, JobExecutionsQuery};
use self::view::ExecutionView;
use crate::domain::ids::{CommandId, JobId};
use crate::http::AppState;
use crate::http::extract::{Body, Empty, Id, Params, WaitParams};
use crate::http::problem::{ApiResult, Problem};
use crate::http::views::PageView;
use crate::services::access::caller::Caller;

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_executions))
        .routes(routes!(get_execution))
        .routes(routes!(cancel_execution))
        .routes(routes!(list_job_executions))
}

/// List executions, newest first.
///
/// A page takes bounded time even in a long history. If few executions match the filters, it may be
/// short or empty although more follow: only a page without `next_cursor` is the last.
#[utoipa::path(get, path = "/api/executions", tag = "executions", params(ExecutionsQuery),
    responses((status = 200, body = PageView<ExecutionView>), (status = 400, body = Problem), (status = 422, body = Problem)))]
async fn list_executions(
    State(state): State<AppState>,
    caller: Caller,
    Params(pairs): Params<Vec<(String, String)>>,
) -> ApiResult<axum::Json<PageView<ExecutionView>>> {
    let (filter, expression, page) = ExecutionsQuery::of(pairs)?.read()?;
    let commands = &state.services.commands;
    let executions = match expression {
        Some(expression) => commands.executions_on(&caller, expression, filter, page).await?,
        None => commands.executions(&caller, filter, page).await?,
    };
    Ok(axum::Json(executions.map(ExecutionView::in_list).into()))
}

/// List a job's executions, newest first.
#[utoipa::path(get, path = "/api/jobs/{id}/executions", tag = "jobs",
    params(("id" = uuid::Uuid, Path), JobExecutionsQuery),
    responses((status = 200, body = PageView<ExecutionView>), (status = 400, body = Problem), (status = 404, body = Problem)))]
async fn list_job_executions(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Params(pairs): Params<Vec<(String, String)>>,
) -> ApiResult<axum::Json<PageView<ExecutionView>>> {
    let (filter, page) = JobExecutionsQuery::of(pairs)?.read()?;
    let commands = &state.services.commands;
    let executions = commands.executions_of_job(&caller, JobId(id), filter, page).await?;
    Ok(axum::Json(executions.map(ExecutionView::in_list).into()))
}

/// Get one execution. With `wait_ms`, wait for its end. Its output is at `/api/commands/{id}/output`.
#[utoipa::path(get, path = "/api/executions/{id}", tag = "executions",
    params(("id" = uuid::Uuid, Path), WaitParams),
    responses((status = 200, body = ExecutionView), (status = 404, body = Problem)))]
async fn get_execution(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Params(params): Params<WaitParams>,
) -> ApiResult<axum::Json<ExecutionView>> {
    let wait_ms = params.read()?;
    let found = state.services.commands.execution(&caller, CommandId(id), wait_ms).await?;
    let output = state.services.output.summary(&caller, &found.found).await?;
    Ok(axum::Json(ExecutionView::from(found).with_output(&output)))
}

/// Cancel an execution. A queued one ends at once; otherwise its agent decides. Repeatable.
#[utoipa::path(post, path = "/api/executions/{id}/cancel", tag = "executions",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 202, body = ExecutionView), (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn cancel_execution(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Body(Empty {}): Body<Empty>,
) -> ApiResult<(StatusCode, axum::Json<ExecutionView>)> {
    let found = state.services.commands.cancel_execution(&caller, CommandId(id)).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(found.into())))
}
