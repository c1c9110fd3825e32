//! Server-sent events as every live resource sends them: headers, signs of life, where to resume.

use std::error::Error;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::{Stream, TryStreamExt as _};
use serde::Serialize;

use muster_protocol::error_chain;

/// Where the client was when it lost its connection.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Tells nginx and its like not to hold events back.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// Between two signs of life: shorter than any proxy waits.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// An answer that lasts as long as its events. An error cuts it off; the client comes back with the
/// id that it has reached.
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
    // Plain structures of texts and numbers: they can be written.
    let data = serde_json::to_string(data).unwrap_or_default();
    Event::default().event(name).data(data)
}

/// The id of the last event that the client has seen; empty if it is no text.
pub(super) fn last_event_id(headers: &HeaderMap) -> Option<&str> {
    // A client that has seen no event with an id may send an empty one.
    let value = headers.get(LAST_EVENT_ID).filter(|value| !value.is_empty())?;
    Some(value.to_str().unwrap_or_default())
}
