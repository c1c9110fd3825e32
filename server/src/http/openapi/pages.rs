//! The documents of the API and the agent protocol, and the page that shows them.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, get};
use tokio::sync::OnceCell;
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::super::problem::Problem;

const JSON: &str = "application/json";
const SCHEMA_JSON: &str = "application/schema+json";

/// Writes a document, which takes the processor a while.
type Write = fn() -> serde_json::Result<String>;

pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/openapi.json", document(JSON, || Ok(super::described()?.to_string())))
        .route("/asyncapi.json", document(JSON, || Ok(super::asyncapi())))
        .route("/frames.schema.json", document(SCHEMA_JSON, || Ok(super::frame_schemas())))
        .merge(SwaggerUi::new("/docs").config(Config::from("/openapi.json")))
}

/// A document that is written at the first request and kept: a server that is asked for none starts
/// sooner and needs less memory.
fn document<S: Clone + Send + Sync + 'static>(
    content_type: &'static str,
    write: Write,
) -> MethodRouter<S> {
    let written = Arc::new(OnceCell::new());
    get(move || answer(written.clone(), content_type, write))
}

async fn answer(
    written: Arc<OnceCell<Bytes>>,
    content_type: &'static str,
    write: Write,
) -> Response {
    let write = async || match tokio::task::spawn_blocking(write).await {
        Ok(Ok(text)) => Ok(Bytes::from(text)),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match written.get_or_try_init(write).await {
        Ok(text) => ([(header::CONTENT_TYPE, content_type)], text.clone()).into_response(),
        Err(error) => {
            tracing::error!(error, "failed to write a document of the API");
            Problem::busy("the server failed to write the document; report this").into_response()
        }
    }
}
