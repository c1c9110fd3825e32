//! A live session: mail to the agent, frames from it, and what was committed meanwhile.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use muster_protocol::CloseCode;
use muster_protocol::frame::{Command, ServerFrame};
use muster_protocol::limits::CANCEL_GRACE_MS;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::commit_ack::Answer;
use super::inbound::Intake;
use super::output_tracker::Custody;
use super::{AgentTransport, Inbound, SessionEnd, Sessions, TransportEnd};
use crate::domain::ids::CommandId;
use crate::fault;
use crate::fault::Fault;
use crate::hub::{SessionHandle, SessionMessage};
use crate::store::StoreError;
use crate::store::writer::CloseSession;

/// Writes of one session that may be under way; beyond, nothing more is read from the agent.
const MAX_PENDING: usize = 64;
/// How long a full agent may take for its inventory.
const INVENTORY_WAIT: Duration = Duration::from_secs(60);

/// The wait for a commit, and what to tell the agent after it.
pub(super) type PendingAnswer = Pin<Box<dyn Future<Output = Result<Answer, StoreError>> + Send>>;

/// A session in progress.
pub(super) struct Live {
    pub(super) service: Arc<Sessions>,
    pub(super) handle: Arc<SessionHandle>,
    pub(super) custody: Custody,
    pub(super) intake: Intake,
    pub(super) pending: FuturesOrdered<PendingAnswer>,
    mail: mpsc::Receiver<SessionMessage>,
    pub(super) is_ready: bool,
    /// When output that there was no room for is to be sent again, over a new session.
    pub(super) retry_output_at: Option<Instant>,
}

enum Event {
    Mail(Option<SessionMessage>),
    Committed(Result<Answer, StoreError>),
    Inbound(Result<Inbound, TransportEnd>),
    Silence,
    RetryOutput,
}

impl Live {
    pub(super) fn new(
        service: Arc<Sessions>,
        handle: Arc<SessionHandle>,
        mail: mpsc::Receiver<SessionMessage>,
    ) -> Self {
        Self {
            service,
            handle,
            custody: Custody::default(),
            intake: Intake::default(),
            pending: FuturesOrdered::new(),
            mail,
            is_ready: false,
            retry_output_at: None,
        }
    }

    /// Opens the session for durable commands and asks for what is queued.
    pub(super) fn make_ready(&mut self, held: impl IntoIterator<Item = CommandId>) {
        self.handle.make_ready(held);
        self.is_ready = true;
        self.service.hub.wake(self.handle.agent_id);
    }

    pub(super) async fn run<T: AgentTransport>(&mut self, transport: &mut T) -> SessionEnd {
        let handle = Arc::clone(&self.handle);
        let turns = async {
            loop {
                if let Err(end) = self.turn(transport).await {
                    return end;
                }
            }
        };
        // An order to end waits for nothing, an agent that does not read included.
        tokio::select! {
            biased;
            code = handle.closed() => SessionEnd::Closed(code),
            end = turns => end,
        }
    }

    /// One wake-up: whatever is at hand, then one flush.
    async fn turn<T: AgentTransport>(&mut self, transport: &mut T) -> Result<(), SessionEnd> {
        let event = self.next(transport).await;
        match event {
            Event::Mail(Some(message)) => self.deliver(message, transport).await?,
            Event::Mail(None) => return Err(SessionEnd::Gone),
            Event::Committed(answer) => self.answer(answer, transport).await?,
            Event::Inbound(inbound) => {
                self.intake.last_heard_at = Instant::now();
                self.receive(inbound?, transport).await?;
            }
            Event::Silence => return Err(SessionEnd::Closed(CloseCode::PolicyViolation)),
            Event::RetryOutput => return Err(SessionEnd::Closed(CloseCode::TryAgainLater)),
        }
        while let Ok(message) = self.mail.try_recv() {
            self.deliver(message, transport).await?;
        }
        Ok(transport.flush().await?)
    }

    async fn next<T: AgentTransport>(&mut self, transport: &mut T) -> Event {
        loop {
            let deadline = self.deadline();
            let may_read = self.pending.len() < MAX_PENDING;
            tokio::select! {
                message = self.mail.recv() => return Event::Mail(message),
                Some(answer) = self.pending.next(), if !self.pending.is_empty() => {
                    return Event::Committed(answer);
                }
                inbound = transport.receive(), if may_read => return Event::Inbound(inbound),
                () = until(self.retry_output_at) => return Event::RetryOutput,
                // While its own writes are waited for, an agent is not silent.
                () = tokio::time::sleep_until(deadline), if may_read => {
                    if self.deadline() <= Instant::now() {
                        return Event::Silence;
                    }
                }
            }
        }
    }

    fn deadline(&self) -> Instant {
        let silence = Duration::from_millis(self.service.settings.silence_ms());
        let heard = self.intake.last_heard_at + silence;
        if self.is_ready { heard } else { heard.min(self.intake.opened_at + INVENTORY_WAIT) }
    }

    async fn deliver<T: AgentTransport>(
        &mut self,
        message: SessionMessage,
        transport: &mut T,
    ) -> Result<(), SessionEnd> {
        let frame = match message {
            SessionMessage::Command { frame, held } => {
                if held {
                    self.custody.try_acquire_new(CommandId(frame.command_id));
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
            // A session that has ended repeats nothing.
            let _ = session.send(SessionMessage::Command { frame, held: false }).await;
        });
    }

    /// Is no longer there for anybody: who waits for its agent learns it now.
    fn depart(&mut self) {
        self.service.hub.leave(self.handle.agent_id, self.handle.epoch);
        self.mail.close();
        self.handle.waiters.close();
    }

    /// Leaves the hub and, unless the server itself is going, notes that the agent is offline.
    pub(super) async fn leave(&mut self, end: SessionEnd) {
        self.depart();
        self.follow_pending().await;
        let handle = &self.handle;
        tracing::info!(agent_id = %handle.agent_id, epoch = handle.epoch, reason = end.reason(), "session over");
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
            tracing::warn!(agent_id = %handle.agent_id, %error, "failed to note the end; a sweep will");
        }
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // Also when something in it has failed.
        self.depart();
    }
}
