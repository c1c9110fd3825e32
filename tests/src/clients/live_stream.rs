//! A reader of server-sent events, as far as the server sends them.

use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;

use crate::clients::api::{Api, ApiResponse};

const PATIENCE: Duration = Duration::from_secs(45);

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveEvent {
    pub name: String,
    /// Empty if it has none.
    pub id: String,
    pub data: Value,
}

/// An answer that goes on.
#[derive(Debug)]
pub struct LiveStream {
    response: reqwest::Response,
    read: Vec<u8>,
}

impl LiveStream {
    /// Asks for a live resource, from behind the event with this id if there is one.
    ///
    /// # Errors
    /// The answer, if it is another than 200.
    pub async fn open(api: &Api, path: &str, last_event_id: &str) -> Result<Self, ApiResponse> {
        let headers = [("last-event-id", last_event_id)];
        let headers = if last_event_id.is_empty() { &headers[..0] } else { &headers[..] };
        let response = api.stream(path, headers).await.expect("reach the server");
        if response.status().as_u16() == 200 {
            return Ok(Self { response, read: Vec::new() });
        }
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await.expect("read the answer").to_vec();
        Err(ApiResponse { status, headers, bytes })
    }

    /// A header of the answer; empty when it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// The next event; `None` when the answer has ended or was cut off.
    pub async fn next(&mut self) -> Option<LiveEvent> {
        loop {
            if let Some(event) = self.ready() {
                return Some(event);
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// The next event of this name; others are passed over.
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

    /// Whole events among the next `bytes` of the answer, wherever that cuts; then hangs up.
    pub async fn cut_after(mut self, bytes: usize) -> Vec<LiveEvent> {
        while self.read.len() < bytes && self.more().await {}
        self.read.truncate(bytes);
        std::iter::from_fn(|| self.ready()).collect()
    }

    async fn more(&mut self) -> bool {
        let chunk = timeout(PATIENCE, self.response.chunk()).await.expect("events in time");
        match chunk {
            Ok(Some(chunk)) => {
                self.read.extend_from_slice(&chunk);
                true
            }
            Ok(None) | Err(_) => false,
        }
    }

    /// The first whole event of what was read, signs of life passed over.
    fn ready(&mut self) -> Option<LiveEvent> {
        loop {
            let end = self.read.windows(2).position(|pair| pair == b"\n\n")?;
            let block: Vec<u8> = self.read.drain(..end + 2).collect();
            let block = String::from_utf8(block).expect("events are text");
            let field = |name: &str| {
                let mut lines = block.lines().filter_map(|line| line.strip_prefix(name));
                lines.next().map(|value| value.trim_start_matches(' ').to_owned())
            };
            let Some(data) = field("data:") else { continue };
            return Some(LiveEvent {
                name: field("event:").unwrap_or_default(),
                id: field("id:").unwrap_or_default(),
                data: serde_json::from_str(&data).expect("data is JSON"),
            });
        }
    }
}
