//! `/api/scripts/{id}/versions`, and the difference between two.

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::views::{ScriptSignatureBody, ScriptVersionBody, ScriptVersionView, VersionDiffView};
use crate::domain::ids::ScriptId;
use crate::http::AppState;
use crate::http::extract::{Body, Id, PageParams, Params, within};
use crate::http::problem::{ApiResult, Problem};
use crate::http::views::PageView;
use crate::services::access::caller::Caller;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_script_versions, save_script_version))
        .routes(routes!(get_script_version))
        .routes(routes!(sign_script_version))
        .routes(routes!(diff_script_versions))
}

/// Two versions.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct DiffParams {
    /// The number of the older version.
    from: u64,
    /// The number of the newer version.
    to: u64,
}

/// List the versions of a script, newest first, without their text.
#[utoipa::path(get, path = "/api/scripts/{id}/versions", tag = "library",
    params(("id" = uuid::Uuid, Path), PageParams),
    responses((status = 200, body = PageView<ScriptVersionView>), (status = 404, body = Problem)))]
async fn list_script_versions(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Params(params): Params<PageParams>,
) -> ApiResult<axum::Json<PageView<ScriptVersionView>>> {
    let page = state.services.library.versions(&caller, ScriptId(id), params.read()?).await?;
    Ok(axum::Json(page.map(ScriptVersionView::from).into()))
}

/// Save a version of a script. Versions never change.
#[utoipa::path(post, path = "/api/scripts/{id}/versions", tag = "library", params(("id" = uuid::Uuid, Path)),
    request_body = ScriptVersionBody,
    responses((status = 201, body = ScriptVersionView), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn save_script_version(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Body(body): Body<ScriptVersionBody>,
) -> ApiResult<Response> {
    let (content, is_current, expected) = body.read();
    let library = &state.services.library;
    let version = library.save(&caller, ScriptId(id), content, is_current, expected).await?;
    let path = format!("/api/scripts/{id}/versions/{}", version.row.version);
    let view = axum::Json(ScriptVersionView::from(version));
    Ok((StatusCode::CREATED, [(header::LOCATION, path)], view).into_response())
}

/// Get one version with its text and its signatures.
#[utoipa::path(get, path = "/api/scripts/{id}/versions/{version}", tag = "library",
    params(("id" = uuid::Uuid, Path), ("version" = u32, Path)),
    responses((status = 200, body = ScriptVersionView), (status = 404, body = Problem)))]
async fn get_script_version(
    State(state): State<AppState>,
    caller: Caller,
    Path((id, version)): Path<(String, String)>,
) -> ApiResult<axum::Json<ScriptVersionView>> {
    let (id, version) = read_path(&id, &version)?;
    Ok(axum::Json(state.services.library.version(&caller, id, version).await?.into()))
}

/// Store what a publisher has signed about a version, made with `muster publisher sign`. A later
/// signature of the same publisher replaces it. The server can't make one.
#[utoipa::path(post, path = "/api/scripts/{id}/versions/{version}/signatures", tag = "library",
    params(("id" = uuid::Uuid, Path), ("version" = u32, Path)), request_body = ScriptSignatureBody,
    responses((status = 200, body = ScriptVersionView), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn sign_script_version(
    State(state): State<AppState>,
    caller: Caller,
    Path((id, version)): Path<(String, String)>,
    Body(body): Body<ScriptSignatureBody>,
) -> ApiResult<axum::Json<ScriptVersionView>> {
    let (id, version) = read_path(&id, &version)?;
    let version = state.services.library.sign(&caller, id, version, body.into()).await?;
    Ok(axum::Json(version.into()))
}

/// Compare two versions of a script.
#[utoipa::path(get, path = "/api/scripts/{id}/diff", tag = "library",
    params(("id" = uuid::Uuid, Path), DiffParams),
    responses((status = 200, body = VersionDiffView), (status = 404, body = Problem)))]
async fn diff_script_versions(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Params(params): Params<DiffParams>,
) -> ApiResult<axum::Json<VersionDiffView>> {
    let version = |name: &str, number: u64| {
        let within = within(name, number, 0..=u32::MAX.into())?;
        Ok::<_, Problem>(u32::try_from(within).unwrap_or(u32::MAX))
    };
    let versions = (version("from", params.from)?, version("to", params.to)?);
    Ok(axum::Json(state.services.library.diff(&caller, ScriptId(id), versions).await?.into()))
}

fn read_path(id: &str, version: &str) -> Result<(ScriptId, u32), Problem> {
    let unknown = || Problem::from(crate::services::error::ServiceError::NotFound("version"));
    let id = Uuid::parse_str(id).map_err(|_| unknown())?;
    let is_plain = version.bytes().all(|byte| byte.is_ascii_digit());
    let version = version.parse().ok().filter(|_| is_plain).ok_or_else(unknown)?;
    Ok((ScriptId(id), version))
}
