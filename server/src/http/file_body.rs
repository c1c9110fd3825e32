//! Answers with a file on the server's disk.

use std::path::Path;

use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use tower_http::services::ServeFile;

use super::problem::{ApiResult, Problem};

/// The archive of a package, or the requested range of it.
pub(super) async fn serve_archive(path: &Path, request: Request) -> ApiResult<Response> {
    serve(path, request, "archive of this package").await
}

/// A file, or the requested range of it. `what`: what is missing if it is not there.
pub(super) async fn serve(
    path: &Path,
    request: Request,
    what: &'static str,
) -> ApiResult<Response> {
    match ServeFile::new(path).try_call(request).await {
        // It was deleted since its row was read, or was not in a backup.
        Ok(response) if response.status() == StatusCode::NOT_FOUND => Err(Problem::not_found(what)),
        Ok(response) => Ok(response.map(Body::new)),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "failed to read a file");
            Err(Problem::busy("the server can't read the file; see its log"))
        }
    }
}
