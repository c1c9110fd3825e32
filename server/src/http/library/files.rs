//! `/api/files`

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::domain::ids::{FileId, PrincipalId};
use crate::domain::time::Timestamp;
use crate::http::AppState;
use crate::http::extract::{Body, Id, Params, page};
use crate::http::problem::{ApiResult, Problem};
use crate::http::views::PageView;
use crate::services::access::caller::Caller;
use crate::services::library::files::{FileRequest, FileSnapshot};

/// The type of the bytes of a file.
const CONTENT_TYPE: &str = "application/octet-stream";

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_files, create_file))
        .routes(routes!(get_file, delete_file))
        .routes(routes!(send_file))
}

/// Which files to list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct FileParams {
    /// Where the previous page ended.
    cursor: Option<String>,
    /// Items of a page: 1 to 500, default 50.
    limit: Option<u64>,
}

/// Where a request continues a file.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ContentParams {
    /// The bytes of the file before these: `received_bytes`.
    offset_bytes: u64,
}

/// A file to upload.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct FileBody {
    /// For people.
    #[schema(example = "app.conf")]
    name: String,
    /// Hex SHA-256 of the whole file.
    sha256: String,
    /// Size of the whole file, at most 1 GiB.
    bytes: u64,
}

/// A file that can be pushed to hosts once all of its bytes are there.
#[derive(Debug, Serialize, ToSchema)]
struct FileView {
    id: FileId,
    #[schema(example = "app.conf")]
    name: String,
    /// Hex SHA-256 of the whole file.
    sha256: String,
    /// Size of the whole file.
    bytes: i64,
    /// Bytes that are there. The upload continues after them.
    received_bytes: u64,
    /// True once all bytes are there and have the SHA-256.
    is_complete: bool,
    /// When it is deleted, unless it is used again.
    expires_at: Timestamp,
    created_by: PrincipalId,
    created_at: Timestamp,
}

impl From<FileSnapshot> for FileView {
    fn from(FileSnapshot { row, received_bytes }: FileSnapshot) -> Self {
        Self {
            id: row.id,
            name: row.name,
            sha256: row.sha256,
            bytes: row.size_bytes,
            received_bytes,
            is_complete: row.completed_at.is_some(),
            expires_at: row.expires_at,
            created_by: row.created_by,
            created_at: row.created_at,
        }
    }
}

/// List uploaded files, newest first.
#[utoipa::path(get, path = "/api/files", tag = "library", params(FileParams),
    responses((status = 200, body = PageView<FileView>), (status = 422, body = Problem)))]
async fn list_files(
    State(state): State<AppState>,
    caller: Caller,
    Params(params): Params<FileParams>,
) -> ApiResult<axum::Json<PageView<FileView>>> {
    let page = page(params.cursor.as_deref(), params.limit)?;
    let page = state.services.files.list(&caller, page).await?;
    Ok(axum::Json(page.map(FileView::from).into()))
}

/// Start to upload a file, or find the one with the same SHA-256: then send the bytes after
/// `received_bytes`. A file is deleted 7 days after its last use.
#[utoipa::path(post, path = "/api/files", tag = "library", request_body = FileBody,
    responses((status = 200, body = FileView), (status = 201, body = FileView), (status = 403, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn create_file(
    State(state): State<AppState>,
    caller: Caller,
    Body(body): Body<FileBody>,
) -> ApiResult<Response> {
    let request = FileRequest { name: body.name, sha256: body.sha256, size_bytes: body.bytes };
    let (file, is_new) = state.services.files.create(&caller, request).await?;
    let location = [(header::LOCATION, format!("/api/files/{}", file.row.id))];
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, location, axum::Json(FileView::from(file))).into_response())
}

/// Get an uploaded file.
#[utoipa::path(get, path = "/api/files/{id}", tag = "library", params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = FileView), (status = 404, body = Problem)))]
async fn get_file(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> ApiResult<axum::Json<FileView>> {
    Ok(axum::Json(state.services.files.get(&caller, FileId(id)).await?.into()))
}

/// Send bytes of a file, from `offset_bytes` on. What has arrived stays, also if the request is interrupted.
/// 409 `wrong_offset` names where the upload continues. When all bytes are there, the server checks the
/// SHA-256; with another one, the upload is deleted.
#[utoipa::path(put, path = "/api/files/{id}/content", tag = "library",
    params(("id" = uuid::Uuid, Path), ContentParams),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = FileView), (status = 400, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem), (status = 409, body = Problem), (status = 415, body = Problem),
        (status = 422, body = Problem), (status = 429, body = Problem)))]
async fn send_file(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Params(params): Params<ContentParams>,
    headers: HeaderMap,
    request: Request,
) -> ApiResult<axum::Json<FileView>> {
    let mut upload = state.services.files.upload(&caller, FileId(id), params.offset_bytes).await?;
    // A page of another site can't send this type without asking first.
    if headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind != CONTENT_TYPE) {
        return Err(Problem::media_type(CONTENT_TYPE));
    }
    // Limited by the size that the upload named.
    let mut body = request.into_body().into_data_stream();
    while let Some(bytes) = body.next().await {
        match bytes {
            Ok(bytes) => upload.write(&bytes).await?,
            Err(_) => {
                upload.keep().await?;
                return Err(Problem::malformed("the body is incomplete".into()));
            }
        }
    }
    Ok(axum::Json(upload.finish().await?.into()))
}

/// Delete an uploaded file. Executions that have not got it yet end with `file_missing`.
#[utoipa::path(delete, path = "/api/files/{id}", tag = "library", params(("id" = uuid::Uuid, Path)),
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem)))]
async fn delete_file(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> ApiResult<StatusCode> {
    state.services.files.delete(&caller, FileId(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}
