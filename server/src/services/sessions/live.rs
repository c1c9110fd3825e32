//! A live session: its state, which every part of it shares, and its loop over messages to the agent,
//! frames from it, and finished commits.

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use muster_protocol::CloseCode;
use muster_protocol::frame::{Ack, Command, ErrorCode, Receipt, ServerFrame};
use muster_protocol::identity::AgentPublicKey;
use muster_protocol::limits::CANCEL_GRACE_MS;
use muster_protocol::package::TaskRun;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::inbound_quota::{InboundQuota, PendingMessage, admitted};
use super::output_tracker::OutputTracker;
use super::{AgentMessage, AgentTransport, RETURN_TIMEOUT, SessionEnd, Sessions, TransportEnd};
use crate::domain::ids::CommandId;
use crate::domain::name::clean;
use crate::fault;
use crate::fault::Fault;
use crate::hub::{SessionHandle, SessionMessage};
use crate::services::certificates::client_certificates as certificates;
use crate::services::certificates::rollover::NoticeState;
use crate::store::StoreError;
use crate::store::writer::{CloseSession, Listed, Reconciled, Settled};

/// Most refused frames of one session; then it is closed.
pub(super) const MAX_ERRORS: u32 = 100;
/// Longest message of an `error` frame, in characters. It may repeat what the agent sent.
pub(super) const MAX_ERROR_FRAME_CHARS: usize = 300;
/// Most commits of one session in progress; beyond it the agent is not read.
const MAX_PENDING: usize = 64;
/// How long a full agent may take to send its inventory.
const INVENTORY_TIMEOUT: Duration = Duration::from_secs(60);

/// The end of a session whose agent broke the protocol.
pub(super) const VIOLATION: SessionEnd = SessionEnd::Closed(CloseCode::PolicyViolation);

/// A session in progress.
pub(super) struct LiveSession {
    pub(super) service: Arc<Sessions>,
    pub(super) handle: Arc<SessionHandle>,
    pub(super) output: OutputTracker,
    pub(super) inbound: InboundState,
    quota: Arc<InboundQuota>,
    /// A message that waits for its quota. No further one is read meanwhile.
    admission: Option<PendingMessage>,
    /// Commits of this session, in the order of the frames that caused them.
    pub(super) pending: FuturesOrdered<PendingCommit>,
    pub(super) messages: mpsc::Receiver<SessionMessage>,
    pub(super) is_ready: bool,
    /// When to end the session so that the agent sends refused output again.
    pub(super) retry_output_at: Option<Instant>,
    /// Of an agent that stores certificates, over TLS that ends here.
    pub(super) certificate: Option<certificates::AgentCertificate>,
    pub(super) notices: NoticeState,
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
    /// A run of a task that the host has started, unless it is unknown: it has no assignment.
    TaskRun {
        command_id: CommandId,
        /// How much of its newest output is kept, if older output is removed; `None` if there is no such run.
        known: Option<Option<u64>>,
    },
    /// The inventory.
    Reconciled(Reconciled),
    /// The next certificate of the agent's key pair.
    Certificate { public_key: AgentPublicKey, issued: certificates::IssuedAgentCertificate },
}

/// What a session remembers of the frames from its agent.
pub(super) struct InboundState {
    pub(super) opened_at: Instant,
    pub(super) last_received_at: Instant,
    pub(super) heartbeat_stored_at: Option<Instant>,
    pub(super) manifest_stored_at: Option<Instant>,
    pub(super) facts_stored_at: Option<Instant>,
    /// Of the facts that this session reported last.
    pub(super) facts_digest: Option<[u8; 32]>,
    /// Unknown frame types that were already refused once.
    pub(super) unknown_types: HashSet<String>,
    error_count: u32,
    /// Items of a full agent's inventory, until it is complete.
    pub(super) inventory: Option<Vec<Listed>>,
    /// Runs of tasks that were announced before the end of the inventory.
    pub(super) task_runs: Vec<TaskRun>,
    /// Digest of the assignments that were sent last.
    pub(super) sent_assignments: Option<String>,
    /// Counts the lists of assignments that were sent.
    pub(super) assignments_revision: u64,
}

impl Default for InboundState {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            opened_at: now,
            last_received_at: now,
            heartbeat_stored_at: None,
            manifest_stored_at: None,
            facts_stored_at: None,
            facts_digest: None,
            unknown_types: HashSet::new(),
            error_count: 0,
            inventory: Some(Vec::new()),
            task_runs: Vec::new(),
            sent_assignments: None,
            assignments_revision: 0,
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
        let bytes = (!handle.is_http).then(|| service.bytes_of(&handle.grant()));
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
            certificate: None,
            notices: NoticeState::default(),
        }
    }

    /// Opens the session for durable commands, and wakes the dispatcher for queued ones.
    pub(super) fn make_ready(&mut self, in_flight: impl IntoIterator<Item = CommandId>) {
        self.handle.make_ready(in_flight);
        self.is_ready = true;
        self.service.hub.wake(self.handle.agent_id);
        if self.handle.takes_assignments() {
            self.service.hub.request_assignments(self.handle.agent_id);
        }
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

enum SessionEvent {
    Message(Option<SessionMessage>),
    Committed(Result<CommitAck, StoreError>),
    Received(Result<AgentMessage, TransportEnd>),
    Silence,
    RetryOutput,
}

impl LiveSession {
    /// Runs the session to its end.
    pub(super) async fn run<T: AgentTransport>(&mut self, transport: &mut T) -> SessionEnd {
        let handle = Arc::clone(&self.handle);
        let event_loop = async {
            loop {
                if let Err(end) = self.handle_next_event(transport).await {
                    return end;
                }
            }
        };
        // Closing never waits, not even for an agent that does not read.
        tokio::select! {
            biased;
            code = handle.closed() => SessionEnd::Closed(code),
            end = event_loop => end,
        }
    }

    /// Handles one event and all queued messages, then flushes once.
    async fn handle_next_event<T: AgentTransport>(
        &mut self,
        transport: &mut T,
    ) -> Result<(), SessionEnd> {
        match self.next_event(transport).await {
            SessionEvent::Message(Some(message)) => self.send(message, transport).await?,
            SessionEvent::Message(None) => return Err(SessionEnd::Gone),
            SessionEvent::Committed(committed) => {
                self.acknowledge_commit(committed, transport).await?
            }
            SessionEvent::Received(message) => self.receive(message?, transport).await?,
            SessionEvent::Silence => return Err(SessionEnd::Closed(CloseCode::HeartbeatsMissed)),
            SessionEvent::RetryOutput => return Err(SessionEnd::Closed(CloseCode::TryAgainLater)),
        }
        while let Ok(message) = self.messages.try_recv() {
            self.send(message, transport).await?;
        }
        Ok(transport.flush().await?)
    }

    async fn next_event<T: AgentTransport>(&mut self, transport: &mut T) -> SessionEvent {
        loop {
            let deadline = self.deadline(transport);
            let may_read = self.pending.len() < MAX_PENDING && self.admission.is_none();
            tokio::select! {
                message = self.messages.recv() => return SessionEvent::Message(message),
                Some(committed) = self.pending.next(), if !self.pending.is_empty() => {
                    return SessionEvent::Committed(committed);
                }
                message = admitted(&mut self.admission) => {
                    self.admission = None;
                    return SessionEvent::Received(Ok(message));
                }
                message = transport.receive(), if may_read => {
                    self.inbound.last_received_at = Instant::now();
                    match message.map(|message| self.quota.admit(message)) {
                        Ok(Ok(message)) => return SessionEvent::Received(Ok(message)),
                        Ok(Err(admission)) => self.admission = Some(admission),
                        Err(end) => return SessionEvent::Received(Err(end)),
                    }
                }
                () = sleep_until(self.retry_output_at) => return SessionEvent::RetryOutput,
                // An agent that waits for its own commits or its quota is not silent.
                () = tokio::time::sleep_until(deadline), if may_read => {
                    if self.deadline(transport) <= Instant::now() {
                        return SessionEvent::Silence;
                    }
                }
            }
        }
    }

    fn deadline<T: AgentTransport>(&self, transport: &T) -> Instant {
        let silence = Duration::from_millis(self.service.settings.silence_ms());
        let heard_at = transport.last_arrival_at().max(Some(self.inbound.last_received_at));
        let deadline = heard_at.unwrap_or(self.inbound.last_received_at) + silence;
        match self.is_ready {
            true => deadline,
            false => deadline.min(self.inbound.opened_at + INVENTORY_TIMEOUT),
        }
    }

    async fn send<T: AgentTransport>(
        &mut self,
        message: SessionMessage,
        transport: &mut T,
    ) -> Result<(), SessionEnd> {
        let frame = match message {
            SessionMessage::Command { frame, is_durable } => {
                if is_durable {
                    self.output.track_new(CommandId(frame.command_id));
                    self.repeat_if_faulty(&frame);
                }
                ServerFrame::Command(frame)
            }
            SessionMessage::Cancel(command_id) => {
                ServerFrame::Cancel { command_id: command_id.0, grace_ms: CANCEL_GRACE_MS }
            }
            SessionMessage::Grant(grant) => self.service.connected(&grant, None),
            SessionMessage::Assignments(items) => {
                return match self.assignments_frame(items.into_vec()) {
                    Some(frame) => Ok(transport.feed(&frame).await?),
                    None => Ok(()),
                };
            }
            SessionMessage::Authorities => return self.send_notice(transport).await,
            SessionMessage::Rekey(rekey) => {
                ServerFrame::Rekey { key: rekey.key.into(), grace_ms: rekey.grace_ms }
            }
            SessionMessage::Drain { reconnect_delay_ms } => {
                if self.handle.is_full {
                    transport.feed(&ServerFrame::Drain { reconnect_delay_ms }).await?;
                }
                return Err(SessionEnd::Drained);
            }
        };
        Ok(transport.feed(&frame).await?)
    }

    fn repeat_if_faulty(&self, frame: &Command) {
        if !Fault::RepeatedDelivery.is_on() {
            return;
        }
        let (session, frame) = (Arc::clone(&self.handle), Box::new(frame.clone()));
        tokio::spawn(async move {
            tokio::time::sleep(fault::DELAY).await;
            // Fails if the session has ended, and then there is no one to repeat it to.
            let _ = session.send(SessionMessage::Command { frame, is_durable: false }).await;
        });
    }

    /// After the connection of a full agent broke, waits until the agent opens a session over
    /// another one: a switch of transport is no outage. Returns why the session ends.
    pub(super) async fn wait_for_return(&mut self, end: SessionEnd) -> SessionEnd {
        if end != SessionEnd::Gone || !self.handle.is_full || self.handle.is_http {
            return end;
        }
        let handle = Arc::clone(&self.handle);
        let drained = async {
            // The next inventory shows that the other messages did not arrive.
            while let Some(message) = self.messages.recv().await {
                if matches!(message, SessionMessage::Drain { .. }) {
                    return SessionEnd::Drained;
                }
            }
            SessionEnd::Gone
        };
        tokio::select! {
            code = handle.closed() => SessionEnd::Closed(code),
            end = drained => end,
            () = tokio::time::sleep(RETURN_TIMEOUT) => end,
        }
    }

    /// Unregisters the session and, unless the server is shutting down, marks the agent offline.
    pub(super) async fn leave(&mut self, end: SessionEnd) {
        self.unregister();
        self.finish_pending().await;
        let handle = &self.handle;
        tracing::info!(agent_id = %handle.agent_id, epoch = handle.epoch, reason = end.reason(), "session ended");
        if end == SessionEnd::Drained {
            return;
        }
        let operation = CloseSession {
            tenant_id: handle.tenant_id,
            agent_id: handle.agent_id,
            epoch: handle.epoch,
            reason: end.reason(),
            now: self.service.clock.now(),
        };
        if let Err(error) = self.service.store.writer().commit(operation).await {
            tracing::warn!(agent_id = %handle.agent_id, %error, "failed to mark the agent offline; a sweep will do it");
        }
    }
}

async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
