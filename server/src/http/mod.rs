//! The API: a file or folder per resource. Handlers read the request, call one service method and
//! shape the answer; they decide nothing.

pub mod access;
mod body_bytes;
mod body_rights;
mod certificates;
pub mod commands;
mod cookies;
mod envelope;
mod extract;
mod file_body;
pub mod fleet;
pub mod integrations;
mod key_lifetime;
mod library;
pub mod openapi;
pub mod operations;
mod origin;
pub mod problem;
pub mod releases;
mod request_id;
mod schedules;
mod security_headers;
mod sessions;
mod sse;
mod views;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use muster_protocol::limits::MAX_FRAME_BYTES;
use tokio::sync::watch;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument as _;

pub use self::body_bytes::BodyBytes;
use self::problem::Problem;
pub use self::sessions::{ExchangeSessions, PollSessions};
use crate::domain::origin::Origin;
use crate::domain::time::Clock;
use crate::services::Services;
use crate::services::certificates::authority::ServerAuthority;

/// What handlers can use. It is cloned for every request, so it is one reference count.
#[derive(Clone)]
pub struct AppState(Arc<ApiState>);

/// The fields of [`AppState`].
pub struct ApiState {
    pub services: Services,
    pub clock: Clock,
    pub exchanges: ExchangeSessions,
    pub polls: PollSessions,
    /// What the bodies of API requests may hold.
    pub body_bytes: BodyBytes,
    /// The address to show to people, if it is configured.
    pub public_url: Option<Origin>,
    /// Whether this server ends TLS itself.
    pub is_secure: bool,
    /// Of a server that issues its certificate itself.
    pub authority: Option<ServerAuthority>,
}

impl AppState {
    /// Shares the state among all requests.
    pub fn new(state: ApiState) -> Self {
        Self(Arc::new(state))
    }
}

impl Deref for AppState {
    type Target = ApiState;

    fn deref(&self) -> &ApiState {
        &self.0
    }
}

/// Every route of the API, with its documentation.
pub fn router(state: AppState) -> Router {
    let (router, _) = openapi::documented().split_for_parts();
    router
        .merge(openapi::pages())
        .merge(operations::install::routes())
        .merge(operations::dashboard::routes())
        .fallback(operations::dashboard::show_page)
        .method_not_allowed_fallback(async || Problem::method_not_allowed().into_response())
        .layer(DefaultBodyLimit::max(MAX_FRAME_BYTES))
        .layer(middleware::from_fn(finish))
        .layer(middleware::from_fn(key_lifetime::end_with_key))
        .layer(middleware::from_fn(log))
        .layer(middleware::from_fn_with_state(state.clone(), operations::metrics::measure))
        .layer(CatchPanicLayer::custom(|_| {
            tracing::error!("a handler panicked");
            Problem::busy("the server failed to answer; report this").into_response()
        }))
        .with_state(state)
}

/// Adds to every route what all requests and answers have in common. `stopped` turns true when the
/// server stops; `is_secure`: this server ends TLS itself.
pub fn with_envelope(
    router: Router,
    clock: Clock,
    is_secure: bool,
    stopped: watch::Receiver<bool>,
) -> Router {
    let envelope = envelope::Envelope { clock, stopped };
    router
        .layer(middleware::from_fn_with_state(envelope, envelope::apply))
        .layer(middleware::from_fn_with_state(is_secure, security_headers::add))
        .layer(middleware::from_fn(request_id::add))
}

/// Runs what changes something to its end, also when the caller hangs up meanwhile: a commit is
/// followed by what it calls for. An exchange takes care of that itself, and does not wait for a
/// caller that has hung up.
async fn finish(request: Request, next: Next) -> Response {
    if request.method().is_safe() || request.uri().path() == sessions::EXCHANGE_PATH {
        return next.run(request).await;
    }
    match tokio::spawn(next.run(request).in_current_span()).await {
        Ok(response) => response,
        Err(_) => {
            tracing::error!("a handler failed");
            Problem::busy("the server failed to answer; report this").into_response()
        }
    }
}

/// One line per request, at debug level. Only route templates, because queries and paths may
/// contain private data.
async fn log(request: Request, next: Next) -> Response {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return next.run(request).await;
    }
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let started = std::time::Instant::now();
    let response = next.run(request).await;
    let took: Duration = started.elapsed();
    let route = route.as_ref().map_or("(none)", MatchedPath::as_str);
    tracing::debug!(%method, route, status = response.status().as_u16(), ?took, "answered");
    response
}
