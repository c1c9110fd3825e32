//! Extractors for handlers. Every invalid input becomes a problem document.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use axum::extract::rejection::{BytesRejection, FailedToBufferBody, JsonRejection, QueryRejection};
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, MatchedPath, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use muster_protocol::limits::MAX_FRAME_BYTES;
use muster_protocol::object::Object;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::AppState;
use super::body_bytes::uncounted_bytes;
use super::body_rights;
use super::cookies::{ACCESS_COOKIE, check_same_origin, cookie};
use super::key_lifetime::KeySlot;
use super::problem::Problem;
use super::request_id::RequestId;
use crate::domain::access::credential::presented;
use crate::domain::access::principal::Principal;
use crate::domain::certificates::client_certificate::{KeyHash, PeerCertificate};
use crate::domain::field_error::{FieldError, FieldErrorCode};
use crate::domain::page::{DEFAULT_LIMIT, MAX_LIMIT, PageRequest};
use crate::domain::source::ClientSource;
use crate::services::access::caller::{Caller, Client};
use crate::services::commands::MAX_WAIT_MS;
use crate::services::error::ServiceError;

/// The credential of a request. A request that has a header twice has none: a proxy may have checked the
/// other one.
pub fn credential(headers: &HeaderMap) -> Option<&str> {
    let names = ["authorization", "x-api-key"];
    if names.iter().any(|name| headers.get_all(*name).iter().nth(1).is_some()) {
        return None;
    }
    let [bearer, api_key] =
        names.map(|name| headers.get(name).and_then(|value| value.to_str().ok()));
    presented(bearer, api_key)
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let secret = secret(parts, state)?;
        let authentication = &state.services.authentication;
        let (principal, mut watch) =
            authentication.authenticate_watched(secret, client(parts)).await?;
        if !serves_closed_tenants(parts) {
            authentication.require_open(principal.tenant_id)?;
        }
        require_second_factor(parts, &principal)?;
        let certificate = require_certificate(parts, state, &principal).await?;
        watch.set_certificate(certificate);
        if let Some(slot) = parts.extensions.get::<KeySlot>() {
            slot.set(watch);
        }
        // For the body, which is read after this.
        parts.extensions.insert(Arc::clone(&principal));
        let (source, request_id) = (source(parts), request_id(parts));
        Ok(Self { principal, source, request_id, certificate })
    }
}

/// A caller that can be authenticated while the database is unavailable.
pub struct DegradedCaller(pub Caller);

impl FromRequestParts<AppState> for DegradedCaller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let secret = secret(parts, state)?;
        let principal =
            state.services.authentication.authenticate_degraded(secret, client(parts)).await?;
        require_second_factor(parts, &principal)?;
        let certificate = require_certificate(parts, state, &principal).await?;
        let (source, request_id) = (source(parts), request_id(parts));
        Ok(Self(Caller { principal, source, request_id, certificate }))
    }
}

/// True for what a tenant that is being deleted may still do: look at itself, and be restored.
fn serves_closed_tenants(parts: &Parts) -> bool {
    let route = parts.extensions.get::<MatchedPath>();
    route.is_some_and(|route| ["/api/tenant", "/api/tenant/restore"].contains(&route.as_str()))
}

/// What a person may do who must enable a second factor first: that, and to look at itself, prove the
/// password and leave.
const WITHOUT_SECOND_FACTOR: [&str; 8] = [
    "/api/me",
    "/api/me/passkeys",
    "/api/me/passkeys/challenge",
    "/api/me/totp",
    "/api/me/totp/confirm",
    "/api/auth/confirm",
    "/api/auth/logout",
    "/api/auth/switch",
];

/// Refuses a person who must enable a second factor first.
fn require_second_factor(parts: &Parts, principal: &Principal) -> Result<(), Problem> {
    let route = parts.extensions.get::<MatchedPath>();
    let is_open = route.is_some_and(|route| WITHOUT_SECOND_FACTOR.contains(&route.as_str()));
    match principal.lacks_second_factor && !is_open {
        true => Err(ServiceError::second_factor_required().into()),
        false => Ok(()),
    }
}

/// Refuses a caller that must show a certificate and shows none of its own. Without one it can only get one.
/// Returns the certificate that the caller needs.
async fn require_certificate(
    parts: &Parts,
    state: &AppState,
    principal: &Principal,
) -> Result<Option<KeyHash>, Problem> {
    let route = parts.extensions.get::<MatchedPath>();
    let is_issue = parts.method == Method::POST
        && route.is_some_and(|route| route.as_str() == "/api/certificates");
    if is_issue {
        return Ok(None);
    }
    let certificates = &state.services.certificates;
    Ok(certificates.check_caller(principal, peer_certificate(parts)).await?)
}

/// True for a request with a header for a credential, even one that can't be read: it never falls back
/// to the cookie.
pub fn has_credential(headers: &HeaderMap) -> bool {
    headers.contains_key(header::AUTHORIZATION) || headers.contains_key("x-api-key")
}

/// The API key or the access token of a request. A cookie counts for a request that changes something
/// only if a page of this server sent it.
fn secret<'a>(parts: &'a Parts, state: &AppState) -> Result<&'a str, Problem> {
    let missing = || {
        Problem::unauthenticated(
            "send an API key or an access token as `Authorization: Bearer`, or an API key as `x-api-key`",
        )
    };
    if has_credential(&parts.headers) {
        return credential(&parts.headers).ok_or_else(missing);
    }
    let token = cookie(&parts.headers, ACCESS_COOKIE).ok_or_else(missing)?;
    if !parts.method.is_safe() {
        check_same_origin(parts, state)?;
    }
    Ok(token)
}

/// Where a request without a principal comes from.
pub fn unknown_client(parts: &Parts) -> Client {
    Client { limited_as: client(parts), source: source(parts), request_id: request_id(parts) }
}

fn request_id(parts: &Parts) -> Option<Arc<str>> {
    parts.extensions.get::<RequestId>().map(RequestId::shared)
}

/// Where a request came from: its connection, or what a trusted proxy says.
fn source(parts: &Parts) -> Option<String> {
    let source = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    source.map(|ConnectInfo(address)| address.ip().to_string())
}

/// The same, for limits.
pub fn client(parts: &Parts) -> Option<ClientSource> {
    let source = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    source.map(|ConnectInfo(address)| ClientSource::of(address.ip()))
}

/// What the connection of a request showed.
pub fn peer_certificate(parts: &Parts) -> PeerCertificate {
    parts.extensions.get::<PeerCertificate>().copied().unwrap_or_default()
}

/// A JSON body. An empty one is `{}`.
///
/// It is read only if the [`Caller`], extracted before it, may send it and its key may hold so many
/// more bytes.
///
/// The content type must be `application/json`. A browser sends a request of another site without
/// asking this server first if its body is a form or plain text, so neither is accepted, not even
/// with an empty body.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned> FromRequest<AppState> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Problem> {
        let kind = request.headers().get(header::CONTENT_TYPE).cloned();
        if kind.as_ref().is_some_and(|kind| !is_json(kind)) {
            return Err(Problem::media_type("application/json"));
        }
        let principal = request.extensions().get::<Arc<Principal>>().cloned();
        if let Some(principal) = &principal {
            require_right(&request, principal)?;
        }
        // Held until the body is parsed.
        let needed = uncounted_bytes(&request);
        let _permit = state.body_bytes.acquire(principal.as_deref(), needed).await?;
        let bytes = axum::body::Bytes::from_request(request, state)
            .await
            .map_err(|rejection| unread_body(&rejection, MAX_FRAME_BYTES))?;
        if bytes.is_empty() {
            return from_json(b"{}");
        }
        if kind.is_none() {
            return Err(Problem::media_type("application/json"));
        }
        from_json(&bytes)
    }
}

/// Refuses a body that its caller may not send.
fn require_right(request: &Request, principal: &Principal) -> Result<(), Problem> {
    let Some(route) = request.extensions().get::<MatchedPath>() else { return Ok(()) };
    let scopes = body_rights::scopes(request.method(), route.as_str());
    match scopes.first() {
        Some(first) if !scopes.iter().any(|scope| principal.may(*scope)) => {
            Err(ServiceError::missing_scope(principal, *first).into())
        }
        _ => Ok(()),
    }
}

/// True for `application/json`, with parameters or without.
pub(super) fn is_json(kind: &HeaderValue) -> bool {
    let essence = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

/// Why a body could not be read. `most_bytes` is its limit.
pub fn unread_body(rejection: &BytesRejection, most_bytes: usize) -> Problem {
    match rejection {
        BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => {
            Problem::too_large(most_bytes)
        }
        _ => Problem::malformed("the body was cut off".into()),
    }
}

fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<Body<T>, Problem> {
    match axum::Json::<Object<T>>::from_bytes(bytes) {
        Ok(axum::Json(Object(value))) => Ok(Body(value)),
        Err(JsonRejection::JsonDataError(error)) => {
            let cause = cause(&error);
            let error = FieldError::from_serde(&cause);
            Err(Problem::invalid_body(cause).with_error(error))
        }
        Err(error) => Err(Problem::malformed(cause(&error))),
    }
}

/// The innermost cause, which is serde's message without the framework's text.
fn cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// A body without fields.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

/// How long to wait until it has ended.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WaitParams {
    /// How long to wait until it has ended, in milliseconds, at most 60000.
    #[serde(default)]
    pub wait_ms: u64,
}

impl WaitParams {
    /// # Errors
    /// As [`wait`].
    pub fn read(&self) -> Result<u64, Problem> {
        wait(self.wait_ms, MAX_WAIT_MS)
    }
}

/// A time to wait, in milliseconds, of at most `most_ms`.
///
/// # Errors
/// A problem that names `wait_ms` if it is longer.
pub fn wait(wait_ms: u64, most_ms: u64) -> Result<u64, Problem> {
    within("wait_ms", wait_ms, 0..=most_ms)
}

/// A number of the query, if it is within its bounds. Numbers of bodies are refused in the same way.
///
/// # Errors
/// A problem that names the parameter and the bound.
pub fn within(name: &str, value: u64, bounds: RangeInclusive<u64>) -> Result<u64, Problem> {
    match bounds.contains(&value) {
        true => Ok(value),
        false => Err(ServiceError::out_of_range(name, value, bounds).into()),
    }
}

/// Query parameters.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(params)) => Ok(Self(params)),
            Err(QueryRejection::FailedToDeserializeQueryString(error)) => {
                let cause = cause(&error);
                let error = FieldError::from_serde(&cause);
                Err(Problem::invalid_query(cause).with_error(error))
            }
            Err(_) => Err(Problem::invalid_query("the query can't be read".into())),
        }
    }
}

/// An id in the path. A malformed id is answered like an unknown one.
pub struct Id(pub Uuid);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        axum::extract::Path::<Uuid>::from_request_parts(parts, state)
            .await
            .map(|axum::extract::Path(id)| Self(id))
            .map_err(|_| Problem::not_found("id"))
    }
}

/// Two ids in the path, one of a part of the other.
pub struct Ids(pub Uuid, pub Uuid);

impl<S: Send + Sync> FromRequestParts<S> for Ids {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        axum::extract::Path::<(Uuid, Uuid)>::from_request_parts(parts, state)
            .await
            .map(|axum::extract::Path((id, of))| Self(id, of))
            .map_err(|_| Problem::not_found("id"))
    }
}

/// Selects a page of a list.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageParams {
    /// `next_cursor` of the previous page.
    pub cursor: Option<String>,
    /// Most items of the page: 1 to 500, default 50.
    pub limit: Option<u64>,
}

impl PageParams {
    /// # Errors
    /// A problem that names the invalid parameter.
    pub fn read(&self) -> Result<PageRequest, Problem> {
        page(self.cursor.as_deref(), self.limit)
    }
}

/// As [`PageParams::read`], for lists with more parameters.
pub fn page(cursor: Option<&str>, limit: Option<u64>) -> Result<PageRequest, Problem> {
    let limit = within("limit", limit.unwrap_or(DEFAULT_LIMIT), 1..=MAX_LIMIT)?;
    PageRequest::read(cursor, limit).map_err(|error| {
        let field = FieldError::new("cursor", FieldErrorCode::Invalid);
        Problem::invalid_query(error.to_string()).with_error(field)
    })
}

/// The `Idempotency-Key` header.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let text = value
        .to_str()
        .map_err(|_| Problem::invalid_query("`Idempotency-Key` must be printable ASCII".into()))?;
    Ok(Some(text.to_owned()))
}
