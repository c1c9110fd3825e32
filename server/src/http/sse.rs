//! Server-sent events, as all live resources send them: headers, keep-alives, and where to resume.

use std::error::Error;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::{Stream, TryStreamExt as _};
use serde::Serialize;

use muster_protocol::error_chain;

/// The last event that the client received before it lost its connection.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Makes nginx and other proxies send events at once.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// Interval of keep-alives, which is shorter than the timeouts of common proxies.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// A response that lasts as long as its events. After an error it ends, and the client reconnects
/// with its last id.
pub(super) fn answer<S, E>(events: S) -> Response
where
    S: Stream<Item = Result<Event, E>> + Send + 'static,
    E: Error + Send + Sync + 'static,
{
    let events = events.inspect_err(|error| {
        tracing::warn!(error = error_chain(error), "a live stream is cut off");
    });
    let headers = [
        (header::CACHE_CONTROL, "no-store"),
        (ACCEL_BUFFERING, "no"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    let life = KeepAlive::new().interval(SIGN_OF_LIFE);
    (headers, Sse::new(events).keep_alive(life)).into_response()
}

/// An event with data.
pub(super) fn as_json(name: &str, data: &impl Serialize) -> Event {
    // Plain structures of texts and numbers always serialise.
    let data = serde_json::to_string(data).unwrap_or_default();
    Event::default().event(name).data(data)
}

/// The id of the last event that the client received; empty if it is not text.
pub(super) fn last_event_id(headers: &HeaderMap) -> Option<&str> {
    // A client that received no event with an id may send an empty one.
    let value = headers.get(LAST_EVENT_ID).filter(|value| !value.is_empty())?;
    Some(value.to_str().unwrap_or_default())
}
