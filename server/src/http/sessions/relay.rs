//! A transport of frames over HTTP requests.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use muster_protocol::CloseCode;
use muster_protocol::frame::ServerFrame;
use muster_protocol::frame::exchange::ExchangePart;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use crate::services::sessions::{Activity, AgentMessage, AgentTransport, TransportEnd};

/// Most frames from the agent that wait for the session.
const INBOUND: usize = 64;
/// Most bytes for the agent that wait for its next request. A session with more than this ends.
const OUTBOUND_BYTES: usize = 16 * 1024 * 1024;

/// What the session holds.
pub struct RelayTransport {
    inbound: mpsc::Receiver<AgentMessage>,
    shared: Arc<RelayState>,
    fetched: FetchedFrames,
}

/// The frames that the agent fetches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchedFrames {
    AllFrames,
    /// Basic agents fetch commands and nothing else.
    CommandsOnly,
}

/// What the requests hold.
pub struct Relay {
    inbound: mpsc::Sender<AgentMessage>,
    shared: Arc<RelayState>,
}

#[derive(Default)]
struct RelayState {
    outbound: Mutex<Outbound>,
    /// Notified if something was added, or the session has ended.
    added: Notify,
    activity: Activity,
    opening: watch::Sender<Opening>,
}

/// How far a session has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Opening {
    #[default]
    Pending,
    /// The agent was registered. The session may have ended since.
    Registered,
    /// The session ended before its agent was registered.
    Refused,
}

#[derive(Default)]
struct Outbound {
    parts: VecDeque<ExchangePart>,
    bytes: usize,
    /// Acknowledgements among all frames so far.
    ack_count: u64,
    closed: Option<CloseCode>,
}

/// Both ends of a new link.
pub fn relay(fetched: FetchedFrames) -> (Relay, RelayTransport) {
    let (sender, receiver) = mpsc::channel(INBOUND);
    let shared = Arc::new(RelayState::default());
    (
        Relay { inbound: sender, shared: Arc::clone(&shared) },
        RelayTransport { inbound: receiver, shared, fetched },
    )
}

impl Relay {
    /// Passes a message to the session; false if it has ended.
    pub async fn push(&self, inbound: AgentMessage) -> bool {
        self.inbound.send(inbound).await.is_ok()
    }

    /// Bytes of a request have arrived.
    pub fn note_life(&self) {
        self.shared.activity.note();
    }

    /// True if the session has ended.
    pub fn is_closed(&self) -> bool {
        self.shared.lock().closed.is_some() || self.inbound.is_closed()
    }

    /// Why the session has ended, if it has.
    pub fn close_code(&self) -> Option<CloseCode> {
        self.shared.lock().closed
    }

    /// True if the agent was registered, even if the session has ended since.
    pub fn is_registered(&self) -> bool {
        *self.shared.opening.borrow() == Opening::Registered
    }

    /// Waits until the agent is registered; false if the session ended before.
    pub async fn registered(&self) -> bool {
        let mut opening = self.shared.opening.subscribe();
        let opened = opening.wait_for(|opening| *opening != Opening::Pending).await;
        opened.is_ok_and(|opening| *opening == Opening::Registered)
    }

    /// Takes the frames that wait, up to a size. The last part is the end of the session.
    pub fn take(&self, max_bytes: usize) -> Vec<ExchangePart> {
        let mut outbound = self.shared.lock();
        let mut parts = Vec::new();
        let mut free_bytes = max_bytes;
        while let Some(part) = outbound.parts.front() {
            let size = part.encoded_bytes();
            if size > free_bytes {
                break;
            }
            free_bytes -= size;
            outbound.bytes -= size;
            parts.extend(outbound.parts.pop_front());
        }
        if outbound.parts.is_empty()
            && let Some(code) = outbound.closed
        {
            parts.push(ExchangePart::Close { code: code.code(), reason: code.reason().into() });
        }
        parts
    }

    /// Acknowledgements that the session has sent so far.
    pub fn ack_count(&self) -> u64 {
        self.shared.lock().ack_count
    }

    /// Waits until the session has sent more acknowledgements than this, or has ended.
    pub async fn acknowledged(&self, before: u64) {
        self.wait_for(|outbound| outbound.ack_count > before).await;
    }

    /// Waits until [`take`](Self::take) would give something.
    pub async fn wait_for_frames(&self) {
        self.wait_for(|outbound| !outbound.parts.is_empty()).await;
    }

    async fn wait_for(&self, is_there: impl Fn(&Outbound) -> bool) {
        loop {
            let added = self.shared.added.notified();
            {
                let outbound = self.shared.lock();
                if is_there(&outbound) || outbound.closed.is_some() {
                    return;
                }
            }
            if self.inbound.is_closed() {
                return;
            }
            added.await;
        }
    }
}

impl RelayState {
    fn lock(&self) -> std::sync::MutexGuard<'_, Outbound> {
        self.outbound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish_opening(&self, end: Opening) {
        self.opening.send_if_modified(|opening| {
            let is_pending = *opening == Opening::Pending;
            if is_pending {
                *opening = end;
            }
            is_pending
        });
    }
}

impl AgentTransport for RelayTransport {
    async fn receive(&mut self) -> Result<AgentMessage, TransportEnd> {
        self.inbound.recv().await.ok_or(TransportEnd::Gone)
    }

    fn last_arrival_at(&self) -> Option<Instant> {
        Some(self.shared.activity.last_at())
    }

    async fn feed(&mut self, frame: &ServerFrame) -> Result<(), TransportEnd> {
        if matches!(frame, ServerFrame::Registered(_)) {
            self.shared.finish_opening(Opening::Registered);
        }
        if self.fetched == FetchedFrames::CommandsOnly && !matches!(frame, ServerFrame::Command(_))
        {
            return Ok(());
        }
        let text = serde_json::to_string(frame).map_err(|_| TransportEnd::Violation)?;
        let part = ExchangePart::Text(text);
        let mut outbound = self.shared.lock();
        if outbound.bytes + part.encoded_bytes() > OUTBOUND_BYTES {
            return Err(TransportEnd::Gone);
        }
        outbound.bytes += part.encoded_bytes();
        outbound.ack_count += u64::from(matches!(frame, ServerFrame::Ack(_)));
        outbound.parts.push_back(part);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), TransportEnd> {
        self.shared.added.notify_one();
        Ok(())
    }

    async fn close(&mut self, code: CloseCode) {
        self.shared.lock().closed = Some(code);
        self.shared.finish_opening(Opening::Refused);
        self.shared.added.notify_one();
    }
}

impl Drop for RelayTransport {
    fn drop(&mut self) {
        self.shared.lock().closed.get_or_insert(CloseCode::TryAgainLater);
        self.inbound.close();
        self.shared.finish_opening(Opening::Refused);
        self.shared.added.notify_one();
    }
}
