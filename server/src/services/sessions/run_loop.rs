//! The loop of a live session: messages to the agent, frames from it, and finished commits.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use muster_protocol::CloseCode;
use muster_protocol::frame::{Command, ServerFrame};
use muster_protocol::limits::CANCEL_GRACE_MS;
use tokio::time::Instant;

use super::inbound_quota::Admission;
use super::live::{CommitAck, LiveSession};
use super::{AgentMessage, AgentTransport, SessionEnd, TransportEnd};
use crate::domain::ids::CommandId;
use crate::fault;
use crate::fault::Fault;
use crate::hub::SessionMessage;
use crate::store::StoreError;
use crate::store::writer::CloseSession;

/// Most commits of one session in progress; beyond it the agent is not read.
const MAX_PENDING: usize = 64;
/// How long a full agent may take to send its inventory.
const INVENTORY_TIMEOUT: Duration = Duration::from_secs(60);

enum Event {
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
            Event::Message(Some(message)) => self.send(message, transport).await?,
            Event::Message(None) => return Err(SessionEnd::Gone),
            Event::Committed(committed) => self.acknowledge_commit(committed, transport).await?,
            Event::Received(message) => self.receive(message?, transport).await?,
            Event::Silence => return Err(SessionEnd::Closed(CloseCode::HeartbeatsMissed)),
            Event::RetryOutput => return Err(SessionEnd::Closed(CloseCode::TryAgainLater)),
        }
        while let Ok(message) = self.messages.try_recv() {
            self.send(message, transport).await?;
        }
        Ok(transport.flush().await?)
    }

    async fn next_event<T: AgentTransport>(&mut self, transport: &mut T) -> Event {
        loop {
            let deadline = self.deadline(transport);
            let may_read = self.pending.len() < MAX_PENDING && self.admission.is_none();
            tokio::select! {
                message = self.messages.recv() => return Event::Message(message),
                Some(committed) = self.pending.next(), if !self.pending.is_empty() => {
                    return Event::Committed(committed);
                }
                message = admitted(&mut self.admission) => {
                    self.admission = None;
                    return Event::Received(Ok(message));
                }
                message = transport.receive(), if may_read => {
                    self.inbound.last_received_at = Instant::now();
                    match message.map(|message| self.quota.admit(message)) {
                        Ok(Ok(message)) => return Event::Received(Ok(message)),
                        Ok(Err(admission)) => self.admission = Some(admission),
                        Err(end) => return Event::Received(Err(end)),
                    }
                }
                () = sleep_until(self.retry_output_at) => return Event::RetryOutput,
                // An agent that waits for its own commits or its quota is not silent.
                () = tokio::time::sleep_until(deadline), if may_read => {
                    if self.deadline(transport) <= Instant::now() {
                        return Event::Silence;
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
            SessionMessage::Grant(grant) => self.service.connected(&grant),
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

async fn admitted(admission: &mut Option<Admission>) -> AgentMessage {
    match admission {
        Some(admission) => admission.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
