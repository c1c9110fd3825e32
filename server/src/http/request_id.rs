//! An id for each request, in its answer, in the log, and in problem documents: a caller can name the
//! request to the operator.

use std::fmt;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tracing::Instrument as _;
use uuid::Uuid;

use super::problem::Problem;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id that a caller may choose.
pub(super) const MAX_REQUEST_ID_BYTES: usize = 64;

/// The id of a request.
#[derive(Debug, Clone)]
pub(super) struct RequestId(Arc<str>);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl RequestId {
    /// The id that the caller chose, if it is short and plain: it is written to the log. Otherwise a new
    /// one.
    fn of(request: &Request) -> Self {
        let mut given = request.headers().get_all(REQUEST_ID).iter();
        let given = match (given.next(), given.next()) {
            (Some(one), None) => one.to_str().ok().filter(|text| is_well_formed(text)),
            _ => None,
        };
        match given {
            Some(given) => Self(given.into()),
            None => Self(Uuid::now_v7().to_string().into()),
        }
    }
}

fn is_well_formed(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=MAX_REQUEST_ID_BYTES).contains(&text.len()) && text.bytes().all(is_plain)
}

/// Gives the request its id, and adds it to the answer.
pub(super) async fn add(mut request: Request, next: Next) -> Response {
    let id = RequestId::of(&request);
    request.extensions_mut().insert(id.clone());
    let span = tracing::error_span!("request", %id);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chosen_id_is_short_and_plain() {
        for text in ["1", "01999999-9999-7999-8999-999999999999", "a_b.C-9", &"x".repeat(64)] {
            assert!(is_well_formed(text), "{text}");
        }
        for text in ["", "a b", "a\tb", "é", "a\"b", "<b>", "a/b", "a\u{1b}[0m", &"x".repeat(65)] {
            assert!(!is_well_formed(text), "{text}");
        }
    }
}
