//! Reads server-sent events of the server.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use reqwest::Response;
use reqwest::header::HeaderMap;
use serde_json::Value;
use sse_stream::{Sse, SseByteStream};
use tokio::time::timeout;

use crate::clients::api::{Api, ApiResponse};

const PATIENCE: Duration = Duration::from_secs(45);

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveEvent {
    pub name: String,
    /// Empty if the event has none.
    pub id: String,
    pub data: Value,
}

/// An event stream.
pub struct LiveStream {
    headers: HeaderMap,
    events: Pin<Box<dyn Stream<Item = Result<Sse, sse_stream::Error>> + Send>>,
    /// Number of bytes of the answer still to read.
    bytes_left: Arc<AtomicUsize>,
}

impl std::fmt::Debug for LiveStream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("LiveStream").field("headers", &self.headers).finish_non_exhaustive()
    }
}

impl LiveStream {
    /// Opens an event stream, after the event with this id if the id is not empty.
    ///
    /// # Errors
    /// The answer, if its status is not 200.
    pub async fn open(api: &Api, path: &str, last_event_id: &str) -> Result<Self, ApiResponse> {
        let headers = [("last-event-id", last_event_id)];
        let headers = if last_event_id.is_empty() { &headers[..0] } else { &headers[..] };
        let response = api.stream(path, headers).await.expect("reach the server");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        if status != 200 {
            let bytes = response.bytes().await.expect("read the answer").to_vec();
            return Err(ApiResponse { status, headers, bytes });
        }
        let bytes_left = Arc::new(AtomicUsize::new(usize::MAX));
        let chunks = chunks(response, Arc::clone(&bytes_left)).map(Ok::<_, std::io::Error>);
        Ok(Self { headers, events: Box::pin(SseByteStream::new(chunks)), bytes_left })
    }

    /// A header of the answer; empty if it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// The next event; `None` after the answer ended or was cut off.
    pub async fn next(&mut self) -> Option<LiveEvent> {
        loop {
            let event = self.events.next().await?.expect("valid events");
            // Blocks without data carry no event.
            let Some(data) = event.data else { continue };
            return Some(LiveEvent {
                name: event.event.unwrap_or_default(),
                id: event.id.unwrap_or_default(),
                data: serde_json::from_str(&data).expect("data is JSON"),
            });
        }
    }

    /// The next event with this name. Skips others.
    ///
    /// # Panics
    /// If the answer ends before.
    pub async fn expect(&mut self, name: &str) -> LiveEvent {
        loop {
            let event = self.next().await;
            let event = event.unwrap_or_else(|| panic!("the stream ended before `{name}`"));
            if event.name == name {
                return event;
            }
        }
    }

    /// The whole events in the next `bytes` of the answer; then closes the connection.
    pub async fn cut_after(mut self, bytes: usize) -> Vec<LiveEvent> {
        self.bytes_left.store(bytes, Ordering::Relaxed);
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }
}

/// The body in chunks, until it ends, is cut off, or `bytes_left` is 0.
fn chunks(response: Response, bytes_left: Arc<AtomicUsize>) -> impl Stream<Item = Bytes> {
    stream::unfold((response, bytes_left), |(mut response, bytes_left)| async move {
        let left = bytes_left.load(Ordering::Relaxed);
        if left == 0 {
            return None;
        }
        let chunk = timeout(PATIENCE, response.chunk()).await.expect("events in time");
        let mut chunk = chunk.ok().flatten()?;
        chunk.truncate(left);
        bytes_left.store(left - chunk.len(), Ordering::Relaxed);
        Some((chunk, (response, bytes_left)))
    })
}
