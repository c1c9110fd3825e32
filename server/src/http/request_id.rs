//! An id for each request, in its answer, in the log, and in problem documents: a caller can name the
//! request to the operator.

use std::fmt;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use muster_protocol::program::request_id::is_request_id;
use tracing::Instrument as _;
use uuid::Uuid;

use super::problem::Problem;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id of a request.
#[derive(Debug, Clone)]
pub(super) struct RequestId(Arc<str>);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl RequestId {
    /// The text of the id.
    pub(super) fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// The id that the caller chose, if it is short and plain: it is written to the log. Otherwise a new
    /// one.
    fn of(request: &Request) -> Self {
        let mut given = request.headers().get_all(REQUEST_ID).iter();
        let given = match (given.next(), given.next()) {
            (Some(one), None) => one.to_str().ok().filter(|text| is_request_id(text)),
            _ => None,
        };
        match given {
            Some(given) => Self(given.into()),
            None => Self(Uuid::now_v7().to_string().into()),
        }
    }
}

/// Gives the request its id, and adds it to the answer.
pub(super) async fn add(mut request: Request, next: Next) -> Response {
    let id = RequestId::of(&request);
    request.extensions_mut().insert(id.clone());
    let span = tracing::error_span!("request", request_id = %id);
    let mut response = next.run(request).instrument(span).await;
    if let Some(problem) = response.extensions_mut().remove::<Arc<Problem>>() {
        // The headers of the answer stay, because handlers add to those of a problem.
        let (mut parts, _) = response.into_parts();
        parts.headers.remove(CONTENT_LENGTH);
        let numbered = Problem::clone(&problem).with_request_id(&id.0).into_response();
        response = Response::from_parts(parts, numbered.into_body());
    }
    if let Ok(value) = HeaderValue::from_str(&id.0) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}
