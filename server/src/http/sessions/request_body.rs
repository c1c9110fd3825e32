//! The body of an agent's request, read with the permits of its session.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use futures_util::StreamExt as _;

use super::relay::Relay;
use crate::http::body_bytes::declared_bytes;
use crate::http::problem::{ApiResult, Problem};
use crate::services::sessions::SessionBytes;

/// How long a body waits for free bytes before it is refused.
pub(super) const PERMIT_WAIT: Duration = Duration::from_secs(10);

/// A body that has been read in part.
pub(super) struct RequestBody {
    stream: axum::body::BodyDataStream,
    read: Vec<u8>,
    /// As declared. Absent for a body that is sent in chunks.
    declared_bytes: Option<usize>,
    max_bytes: usize,
}

impl RequestBody {
    /// # Errors
    /// A problem if the body is declared larger than `max_bytes`.
    pub(super) fn new(body: Body, headers: &HeaderMap, max_bytes: usize) -> ApiResult<Self> {
        let declared_bytes = declared_bytes(headers);
        if declared_bytes.is_some_and(|bytes| bytes > max_bytes) {
            return Err(Problem::too_large(max_bytes));
        }
        Ok(Self { stream: body.into_data_stream(), read: Vec::new(), declared_bytes, max_bytes })
    }

    /// What has been read.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.read
    }

    /// Reads until so many bytes are there, or the body has ended.
    pub(super) async fn read_at_least(&mut self, bytes: usize) -> ApiResult<()> {
        while self.read.len() < bytes && self.read_more().await? {}
        Ok(())
    }

    /// Reads the rest, once the session may hold it. Each piece shows that the agent is alive.
    /// `is_half_here` is called when half of it has arrived.
    pub(super) async fn read_to_end(
        &mut self,
        session: &SessionBytes,
        relay: &Relay,
        is_half_here: impl Fn(),
    ) -> ApiResult<Bytes> {
        let total = self.declared_bytes.unwrap_or(self.max_bytes);
        let permit = tokio::time::timeout(PERMIT_WAIT, session.acquire(total)).await;
        let permit = permit.map_err(|_| Problem::too_many_bytes())?;
        if let Some(total) = self.declared_bytes {
            self.read.reserve_exact(total.saturating_sub(self.read.len()));
        }
        while self.read_more().await? {
            relay.note_life();
            if self.declared_bytes.is_some_and(|total| self.read.len() >= total / 2) {
                is_half_here();
            }
        }
        Ok(permit.attach(std::mem::take(&mut self.read).into()))
    }

    async fn read_more(&mut self) -> ApiResult<bool> {
        let Some(piece) = self.stream.next().await else { return Ok(false) };
        let piece = piece.map_err(|_| Problem::malformed("the body was cut off".into()))?;
        if self.read.len() + piece.len() > self.max_bytes {
            return Err(Problem::too_large(self.max_bytes));
        }
        self.read.extend_from_slice(&piece);
        Ok(true)
    }
}
