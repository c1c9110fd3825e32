//! The address at which a caller reaches this server.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::header::HOST;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue};

use super::AppState;
use super::problem::Problem;
use crate::domain::origin::Origin;
use crate::services::certificates::authority::ServerAuthority;

const FORWARDED_SCHEME: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The configured address; otherwise the one in the request, if it is safe to repeat.
pub struct RequestOrigin(pub Option<Origin>);

/// The address that install commands name, and the authority that they trust.
pub struct InstallOrigin {
    origin: Option<Origin>,
    /// The server's own, if its certificate is valid for the address. Behind a proxy that ends TLS under
    /// another name, clients see another certificate.
    authority: Option<ServerAuthority>,
}

impl RequestOrigin {
    /// # Errors
    /// A problem, if the request has no address.
    pub fn required(self) -> Result<Origin, Problem> {
        self.0.ok_or_else(Problem::unknown_host)
    }
}

impl InstallOrigin {
    /// # Errors
    /// A problem, if the request has no address.
    pub fn required(&self) -> Result<&Origin, Problem> {
        self.origin.as_ref().ok_or_else(Problem::unknown_host)
    }

    /// The command that a person pastes on a host; `None` if there is no safe one.
    pub fn install_line(&self, key: &str) -> Option<String> {
        let pin = self.authority.as_ref().map(ServerAuthority::pin);
        self.origin.as_ref()?.install_line(key, pin.as_ref())
    }

    /// The certificate in PEM that hosts must trust; `None` if that of a public authority is expected.
    pub fn certificate_pem(&self) -> Option<String> {
        self.authority.as_ref().map(ServerAuthority::certificate_pem)
    }
}

impl FromRequestParts<AppState> for InstallOrigin {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Infallible> {
        let origin = request_origin(parts, state);
        let is_covered = |authority: &&ServerAuthority| {
            origin
                .as_ref()
                .is_some_and(|origin| origin.is_secure() && authority.covers(origin.host()))
        };
        let authority = state.authority.as_ref().filter(is_covered).cloned();
        Ok(Self { origin, authority })
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
