//! `/api/scripts`

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::views::{CreateScriptBody, LibraryScriptView, UpdateScriptBody};
use crate::domain::ids::ScriptId;
use crate::http::AppState;
use crate::http::extract::{Body, Id, Params, page};
use crate::http::problem::{ApiResult, Problem};
use crate::http::views::PageView;
use crate::services::access::caller::Caller;
use crate::services::library::ScriptFilter;

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_scripts, create_script))
        .routes(routes!(get_script, update_script, delete_script))
        .merge(super::versions::routes())
        .merge(super::starter::routes())
        .merge(super::packages::routes())
        .merge(super::files::routes())
        .merge(super::assignments::routes())
        .merge(super::services::routes())
}

/// How to delete a script.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct DeletionParams {
    /// Delete it although schedules or hooks run it: they fail from then on.
    force: Option<bool>,
}

/// Which scripts to list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ScriptParams {
    /// Where the previous page ended.
    cursor: Option<String>,
    /// Items of a page: 1 to 500, default 50.
    limit: Option<u64>,
    /// A part of the name or the description, in any case.
    search: Option<String>,
    /// Scripts of this folder and of those in it.
    folder: Option<String>,
    /// Scripts with this tag.
    tag: Option<String>,
    /// The script of exactly this name.
    name: Option<String>,
}

/// List scripts, oldest first, with what their current versions run.
#[utoipa::path(get, path = "/api/scripts", tag = "library", params(ScriptParams),
    responses((status = 200, body = PageView<LibraryScriptView>), (status = 422, body = Problem)))]
async fn list_scripts(
    State(state): State<AppState>,
    caller: Caller,
    Params(params): Params<ScriptParams>,
) -> ApiResult<axum::Json<PageView<LibraryScriptView>>> {
    let ScriptParams { cursor, limit, search, folder, tag, name } = params;
    let filter = ScriptFilter { search, folder, tag, name };
    let page = page(cursor.as_deref(), limit)?;
    let page = state.services.library.list(&caller, filter, page).await?;
    Ok(axum::Json(page.map(LibraryScriptView::from).into()))
}

/// Create a script with its first version. Jobs and commands run it as `library:NAME`, on hosts whose
/// policy allows the library.
#[utoipa::path(post, path = "/api/scripts", tag = "library", request_body = CreateScriptBody,
    responses((status = 201, body = LibraryScriptView), (status = 403, body = Problem), (status = 409, body = Problem),
        (status = 422, body = Problem)))]
async fn create_script(
    State(state): State<AppState>,
    caller: Caller,
    Body(body): Body<CreateScriptBody>,
) -> ApiResult<Response> {
    let (name, request, content) = body.read();
    let script = state.services.library.create(&caller, &name, request, content).await?;
    let location = [(header::LOCATION, format!("/api/scripts/{}", script.row.id))];
    let view = axum::Json(LibraryScriptView::from(script));
    Ok((StatusCode::CREATED, location, view).into_response())
}

/// Get a script.
#[utoipa::path(get, path = "/api/scripts/{id}", tag = "library", params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = LibraryScriptView), (status = 404, body = Problem)))]
async fn get_script(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> ApiResult<axum::Json<LibraryScriptView>> {
    Ok(axum::Json(state.services.library.get(&caller, ScriptId(id)).await?.into()))
}

/// Change folder, tags, description or default target of a script, or point to another version: with
/// `current_version` a script is rolled back. What a version runs never changes.
#[utoipa::path(patch, path = "/api/scripts/{id}", tag = "library", params(("id" = uuid::Uuid, Path)),
    request_body = UpdateScriptBody,
    responses((status = 200, body = LibraryScriptView), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn update_script(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Body(body): Body<UpdateScriptBody>,
) -> ApiResult<axum::Json<LibraryScriptView>> {
    Ok(axum::Json(state.services.library.update(&caller, ScriptId(id), body.into()).await?.into()))
}

/// Delete a script with its versions. Executions that wait for their hosts do not run any more; the
/// history keeps the numbers and hashes of what ran. A script that schedules or hooks run is not deleted
/// without `force`.
#[utoipa::path(delete, path = "/api/scripts/{id}", tag = "library",
    params(("id" = uuid::Uuid, Path), DeletionParams),
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
async fn delete_script(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Params(params): Params<DeletionParams>,
) -> ApiResult<StatusCode> {
    let is_forced = params.force.unwrap_or_default();
    state.services.library.delete(&caller, ScriptId(id), is_forced).await?;
    Ok(StatusCode::NO_CONTENT)
}
