//! `/api/packages`

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::views::{ScriptParameterView, ScriptSignatureBody, views};
use crate::domain::ids::{PackageId, PrincipalId};
use crate::domain::time::Timestamp;
use crate::http::AppState;
use crate::http::extract::{Body, Id, Params, page};
use crate::http::file_body::serve_archive;
use crate::http::problem::{ApiResult, Problem};
use crate::http::views::PageView;
use crate::services::access::caller::Caller;
use crate::services::library::packages::PackageSnapshot;

/// The type of archives in requests and answers.
const ARCHIVE_TYPE: &str = "application/octet-stream";

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_packages, upload_package))
        .routes(routes!(get_package, delete_package))
        .routes(routes!(download_package))
        .routes(routes!(sign_package))
}

/// Which packages to list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct PackageParams {
    /// Where the previous page ended.
    cursor: Option<String>,
    /// Items of a page: 1 to 500, default 50.
    limit: Option<u64>,
    /// The versions of the package of exactly this name.
    name: Option<String>,
}

/// A version of a package, which never changes.
#[derive(Debug, Serialize, ToSchema)]
struct PackageView {
    id: PackageId,
    #[schema(example = "backup")]
    name: String,
    #[schema(example = "1.2.0")]
    version: String,
    /// `job`: it runs once for each command.
    #[schema(example = "job")]
    kind: String,
    /// `binary`, `sh`, `bash`, `python`, `powershell` or `node`.
    #[schema(example = "sh")]
    executor: String,
    /// The file of the archive that is started.
    #[schema(example = "bin/run.sh")]
    entry: String,
    /// Arguments of the entry.
    argv: Vec<String>,
    parameters: Vec<ScriptParameterView>,
    timeout_ms: Option<u64>,
    /// SHA-256 of the archive, in hex.
    sha256: String,
    /// `zip` or `tar.zst`.
    #[schema(example = "tar.zst")]
    format: String,
    archive_bytes: i64,
    /// Size of all its files.
    unpacked_bytes: i64,
    /// Number of its files and folders.
    entry_count: i64,
    created_by: PrincipalId,
    created_at: Timestamp,
    /// JSON, byte for byte as hosts get it and publishers sign it.
    document: String,
    /// What publishers have signed about the document.
    signatures: Vec<ScriptSignatureBody>,
}

impl From<PackageSnapshot> for PackageView {
    fn from(PackageSnapshot { row, signatures }: PackageSnapshot) -> Self {
        let content = row.content();
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        Self {
            kind: text(content.as_ref().map(|content| content.kind.as_str())),
            executor: text(content.as_ref().map(|content| content.executor.as_str())),
            entry: text(content.as_ref().map(|content| content.entry.as_str())),
            argv: content.as_ref().map(|content| content.argv.clone()).unwrap_or_default(),
            timeout_ms: content.as_ref().and_then(|content| content.timeout_ms),
            parameters: views(content.map(|content| content.parameters).unwrap_or_default()),
            id: row.id,
            name: row.name,
            version: row.version,
            sha256: row.sha256,
            format: row.format,
            archive_bytes: row.archive_bytes,
            unpacked_bytes: row.unpacked_bytes,
            entry_count: row.entry_count,
            created_by: row.created_by,
            created_at: row.created_at,
            document: row.document,
            signatures: signatures.into_iter().map(Into::into).collect(),
        }
    }
}

/// List packages, newest first.
#[utoipa::path(get, path = "/api/packages", tag = "library", params(PackageParams),
    responses((status = 200, body = PageView<PackageView>), (status = 422, body = Problem)))]
async fn list_packages(
    State(state): State<AppState>,
    caller: Caller,
    Params(params): Params<PackageParams>,
) -> ApiResult<axum::Json<PageView<PackageView>>> {
    let PackageParams { cursor, limit, name } = params;
    let page = page(cursor.as_deref(), limit)?;
    let page = state.services.packages.list(&caller, name.as_deref(), page).await?;
    Ok(axum::Json(page.map(PackageView::from).into()))
}

/// Upload a package: a zip or tar.zst archive with a `muster.toml`. Jobs and commands run it as
/// `package:NAME@VERSION`, on hosts whose policy allows the library. Repeatable with the same archive;
/// versions never change.
#[utoipa::path(post, path = "/api/packages", tag = "library",
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = PackageView), (status = 201, body = PackageView), (status = 403, body = Problem),
        (status = 409, body = Problem), (status = 415, body = Problem), (status = 422, body = Problem),
        (status = 400, body = Problem)))]
async fn upload_package(
    State(state): State<AppState>,
    caller: Caller,
    headers: HeaderMap,
    request: Request,
) -> ApiResult<Response> {
    let mut upload = state.services.packages.upload(&caller).await?;
    // A page of another site can't send this type without asking first.
    if headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind != ARCHIVE_TYPE) {
        return Err(Problem::media_type(ARCHIVE_TYPE));
    }
    // Limited by the largest archive.
    let mut body = request.into_body().into_data_stream();
    while let Some(bytes) = body.next().await {
        let bytes = bytes.map_err(|_| Problem::malformed("the body is incomplete".into()))?;
        upload.write(&bytes).await?;
    }
    let (package, is_new) = upload.finish().await?;
    let location = [(header::LOCATION, format!("/api/packages/{}", package.row.id))];
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, location, axum::Json(PackageView::from(package))).into_response())
}

/// Get a package.
#[utoipa::path(get, path = "/api/packages/{id}", tag = "library", params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = PackageView), (status = 404, body = Problem)))]
async fn get_package(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> ApiResult<axum::Json<PackageView>> {
    Ok(axum::Json(state.services.packages.get(&caller, PackageId(id)).await?.into()))
}

/// Download the archive of a package, or a range of it.
#[utoipa::path(get, path = "/api/packages/{id}/archive", tag = "library", params(("id" = uuid::Uuid, Path)),
    responses((status = 200, content_type = "application/octet-stream"), (status = 206, content_type = "application/octet-stream"),
        (status = 404, body = Problem)))]
async fn download_package(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    request: Request,
) -> ApiResult<Response> {
    let path = state.services.packages.archive(&caller, PackageId(id)).await?;
    serve_archive(&path, request).await
}

/// Store what a publisher has signed about a package, made with `muster publisher sign`. A later signature of
/// the same publisher replaces it. The server can't make one.
#[utoipa::path(post, path = "/api/packages/{id}/signatures", tag = "library", params(("id" = uuid::Uuid, Path)),
    request_body = ScriptSignatureBody,
    responses((status = 200, body = PackageView), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn sign_package(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Body(body): Body<ScriptSignatureBody>,
) -> ApiResult<axum::Json<PackageView>> {
    let packages = &state.services.packages;
    Ok(axum::Json(packages.sign(&caller, PackageId(id), body.into()).await?.into()))
}

/// Delete a package. Executions that wait for their hosts do not run any more; the history keeps the
/// version and the hashes of what ran.
#[utoipa::path(delete, path = "/api/packages/{id}", tag = "library", params(("id" = uuid::Uuid, Path)),
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem)))]
async fn delete_package(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> ApiResult<StatusCode> {
    state.services.packages.delete(&caller, PackageId(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}
