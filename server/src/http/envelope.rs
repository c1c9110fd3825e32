//! What applies to every request and answer: a request names its host, an answer is dated, and a
//! server that stops answers what still waits.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{DATE, HOST};
use axum::http::{HeaderValue, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tokio::sync::watch;

use super::problem::Problem;
use crate::domain::time::Clock;

/// How long requests may take when the server stops; those that wait for something are answered
/// then.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// What it needs. Cloned for every request.
#[derive(Debug, Clone)]
pub(super) struct Envelope {
    pub clock: Clock,
    /// Turns true when the server stops.
    pub stopped: watch::Receiver<bool>,
}

/// Passes a request on.
pub(super) async fn apply(
    State(Envelope { clock, stopped }): State<Envelope>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = match names_one_host(&request) {
        false => Problem::missing_host().into_response(),
        true => tokio::select! {
            response = next.run(request) => response,
            () = grace_after(stopped) => Problem::stopping().into_response(),
        },
    };
    // The HTTP library's own date stops while the clock is behind an earlier time.
    if let Ok(date) = HeaderValue::try_from(clock.now().http_date()) {
        response.headers_mut().insert(DATE, date);
    }
    response
}

/// HTTP/1.1 requires exactly one `Host`; later versions name the host elsewhere.
fn names_one_host(request: &Request) -> bool {
    request.version() != Version::HTTP_11 || request.headers().get_all(HOST).iter().count() == 1
}

async fn grace_after(mut stopped: watch::Receiver<bool>) {
    if stopped.wait_for(|stopped| *stopped).await.is_err() {
        // Without a sender the server is not stopped.
        return std::future::pending().await;
    }
    tokio::time::sleep(STOP_GRACE).await;
}
