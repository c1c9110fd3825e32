//! `GET /api/agents/packages/{sha256}` and `GET /api/agents/files/{sha256}`: what a command names.

use axum::extract::{Path, Request, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use muster_protocol::CommandName;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AdmittedRequest;
use crate::http::AppState;
use crate::http::file_body::{serve, serve_archive};
use crate::http::problem::{ApiResult, Problem};
use crate::services::error::ServiceError;
use crate::services::library::packages::AssignedFile;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(download_package_archive))
        .routes(routes!(download_pushed_file))
}

/// Download the archive with this SHA-256, or a range of it; or the body of a script that is assigned, as a whole. For
/// agents: needs an agent key of the tenant. Agents learn the SHA-256 from the command or the assignment.
#[utoipa::path(get, path = "/api/agents/packages/{sha256}", tag = "agent link", params(("sha256" = String, Path)),
    responses((status = 200, content_type = "application/octet-stream"), (status = 206, content_type = "application/octet-stream"),
        (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem)))]
async fn download_package_archive(
    State(state): State<AppState>,
    AdmittedRequest(admission): AdmittedRequest,
    Path(sha256): Path<String>,
    request: Request,
) -> ApiResult<Response> {
    let tenant_id = admission.grant.tenant_id;
    if !admission.grant.permissions.allows(CommandName::Execute) {
        return Err(ServiceError::NotFound("package").into());
    }
    match state.services.packages.archive_for_agents(tenant_id, &sha256).await? {
        AssignedFile::Archive(path) => serve_archive(&path, request).await,
        AssignedFile::Body(body) => {
            let content_type = [(header::CONTENT_TYPE, "application/octet-stream")];
            Ok((content_type, body).into_response())
        }
    }
}

/// Download the file with this SHA-256 that a command writes on the host, or a range of it. For agents: needs an
/// agent key of the tenant. Agents learn the SHA-256 from the command.
#[utoipa::path(get, path = "/api/agents/files/{sha256}", tag = "agent link", params(("sha256" = String, Path)),
    responses((status = 200, content_type = "application/octet-stream"), (status = 206, content_type = "application/octet-stream"),
        (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem)))]
async fn download_pushed_file(
    State(state): State<AppState>,
    AdmittedRequest(admission): AdmittedRequest,
    Path(sha256): Path<String>,
    request: Request,
) -> ApiResult<Response> {
    let tenant_id = admission.grant.tenant_id;
    let path = state.services.files.path_for_agents(tenant_id, &sha256).await?;
    serve(&path, request, "file").await
}
