//! The address at which a caller reaches this server.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::header::HOST;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue};

use super::AppState;
use super::problem::Problem;
use crate::domain::origin::Origin;

const FORWARDED_SCHEME: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The configured address; otherwise the one in the request, if it is safe to repeat.
pub struct RequestOrigin(pub Option<Origin>);

impl RequestOrigin {
    /// # Errors
    /// A problem, if the request has no address.
    pub fn required(self) -> Result<Origin, Problem> {
        self.0.ok_or_else(Problem::unknown_host)
    }
}

impl FromRequestParts<AppState> for RequestOrigin {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Infallible> {
        Ok(Self(request_origin(parts, state)))
    }
}

/// The address at which a request was sent.
pub fn request_origin(parts: &Parts, state: &AppState) -> Option<Origin> {
    if let Some(configured) = &state.public_url {
        return Some(configured.clone());
    }
    let header = |name: HeaderName| {
        parts.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let authority = parts.uri.authority().map(|host| host.as_str());
    let host = header(HOST).or(authority).unwrap_or_default();
    // A reverse proxy that ends TLS sends this header. A caller that forges it only changes the
    // response to its own request.
    let is_forwarded = header(FORWARDED_SCHEME).is_some_and(|scheme| scheme == "https");
    Origin::of_host(state.is_secure || is_forwarded, host).ok()
}
