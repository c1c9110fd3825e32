//! The state of a live session, which every part of the session shares.

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::stream::FuturesOrdered;
use muster_protocol::CloseCode;
use muster_protocol::frame::{Ack, ErrorCode, Receipt, ServerFrame};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::inbound_quota::{Admission, InboundQuota};
use super::output_tracker::OutputTracker;
use super::{AgentTransport, SessionEnd, Sessions};
use crate::domain::ids::CommandId;
use crate::domain::name::clean;
use crate::hub::{SessionHandle, SessionMessage};
use crate::store::StoreError;
use crate::store::writer::{Listed, Reconciled, Settled};

/// Most refused frames of one session; then it is closed.
pub(super) const MAX_ERRORS: u32 = 100;
/// Longest message of an `error` frame, in characters. It may repeat what the agent sent.
pub(super) const MAX_ERROR_FRAME_CHARS: usize = 300;

/// The end of a session whose agent broke the protocol.
pub(super) const VIOLATION: SessionEnd = SessionEnd::Closed(CloseCode::PolicyViolation);

/// A session in progress.
pub(super) struct LiveSession {
    pub(super) service: Arc<Sessions>,
    pub(super) handle: Arc<SessionHandle>,
    pub(super) output: OutputTracker,
    pub(super) inbound: InboundState,
    pub(super) quota: Arc<InboundQuota>,
    /// A message that waits for its quota. No further one is read meanwhile.
    pub(super) admission: Option<Admission>,
    /// Commits of this session, in the order of the frames that caused them.
    pub(super) pending: FuturesOrdered<PendingCommit>,
    pub(super) messages: mpsc::Receiver<SessionMessage>,
    pub(super) is_ready: bool,
    /// When to end the session so that the agent sends refused output again.
    pub(super) retry_output_at: Option<Instant>,
}

/// A commit in progress.
pub(super) type PendingCommit = Pin<Box<dyn Future<Output = Result<CommitAck, StoreError>> + Send>>;

/// What was committed, and therefore may be acknowledged.
#[derive(Debug)]
pub(super) enum CommitAck {
    /// The agent does not wait for an acknowledgement.
    None,
    /// A command was accepted or started.
    Progress(CommandId),
    /// Output up to an offset.
    Output { command_id: CommandId, offset_bytes: u64 },
    /// The disk has no space for the output of a command.
    NoSpace(CommandId),
    /// Earlier output was not stored, so neither was this output or report.
    OutputMissing(CommandId),
    /// A result. `receipt`: where to send the receipt instead of a frame.
    Settled { command_id: CommandId, settled: Settled, receipt: Option<oneshot::Sender<Receipt>> },
    /// The inventory.
    Reconciled(Reconciled),
}

/// What a session remembers of the frames from its agent.
pub(super) struct InboundState {
    pub(super) opened_at: Instant,
    pub(super) last_received_at: Instant,
    pub(super) heartbeat_stored_at: Option<Instant>,
    pub(super) manifest_stored_at: Option<Instant>,
    /// Unknown frame types that were already refused once.
    pub(super) unknown_types: HashSet<String>,
    error_count: u32,
    /// Items of a full agent's inventory, until it is complete.
    pub(super) inventory: Option<Vec<Listed>>,
}

impl Default for InboundState {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            opened_at: now,
            last_received_at: now,
            heartbeat_stored_at: None,
            manifest_stored_at: None,
            unknown_types: HashSet::new(),
            error_count: 0,
            inventory: Some(Vec::new()),
        }
    }
}

impl LiveSession {
    pub(super) fn new(
        service: Arc<Sessions>,
        handle: Arc<SessionHandle>,
        messages: mpsc::Receiver<SessionMessage>,
    ) -> Self {
        // Over HTTP, the bytes are counted when the body is read.
        let bytes = (!handle.is_http).then(|| service.bytes_of(handle.grant().key_id));
        Self {
            service,
            handle,
            output: OutputTracker::default(),
            inbound: InboundState::default(),
            quota: Arc::new(InboundQuota::new(bytes)),
            admission: None,
            pending: FuturesOrdered::new(),
            messages,
            is_ready: false,
            retry_output_at: None,
        }
    }

    /// Opens the session for durable commands, and wakes the dispatcher for queued ones.
    pub(super) fn make_ready(&mut self, in_flight: impl IntoIterator<Item = CommandId>) {
        self.handle.make_ready(in_flight);
        self.is_ready = true;
        self.service.hub.wake(self.handle.agent_id);
    }

    /// Acknowledges output or a result of a command. Only for what is committed.
    pub(super) async fn acknowledge<T: AgentTransport>(
        &mut self,
        command_id: CommandId,
        offset_bytes: Option<u64>,
        receipt: Option<Receipt>,
        transport: &mut T,
    ) -> Result<(), SessionEnd> {
        let ack = Ack { command_id: command_id.0, offset_bytes, receipt };
        Ok(transport.feed(&ServerFrame::Ack(ack)).await?)
    }

    /// Refuses a frame with an `error` frame.
    ///
    /// # Errors
    /// The end of the session, if too many frames were refused.
    pub(super) async fn refuse<T: AgentTransport>(
        &mut self,
        code: ErrorCode,
        message: String,
        transport: &mut T,
    ) -> Result<(), SessionEnd> {
        self.inbound.error_count += 1;
        if self.inbound.error_count > MAX_ERRORS {
            return Err(VIOLATION);
        }
        let message = clean(&message, MAX_ERROR_FRAME_CHARS);
        Ok(transport.feed(&ServerFrame::Error { code, message }).await?)
    }

    /// Unregisters the session, and fails the requests that wait for replies of its agent.
    pub(super) fn unregister(&mut self) {
        self.service.hub.unregister(self.handle.agent_id, self.handle.epoch);
        self.messages.close();
        self.handle.pending_replies.close();
    }
}

impl Drop for LiveSession {
    fn drop(&mut self) {
        // Also after a panic.
        self.unregister();
    }
}
