//! The only path by which durable commands reach agents: acquire a slot, commit, then send the
//! frame or free the slot.
//!
//! Single commands, jobs and the dispatcher use it, so `delivered` is always committed before the
//! frame leaves. If the result of a commit is unknown, a command may be stored as `delivered`
//! although no frame was sent. The session is then closed, and the inventory of the agent's next
//! session puts the command back into the queue.

use std::sync::Arc;
use std::time::Instant;

use muster_protocol::CloseCode;
use muster_protocol::commands::step::parts_of;
use muster_protocol::library::{ScriptContent, TriggerCall};
use muster_protocol::parameter::secret_parameters::SecretParameters;

use super::secret_parameters::{OutgoingCommand, has_stdin};
use crate::domain::commands::command_state::EndReason;
use crate::domain::ids::CommandId;
use crate::domain::secret_box::SecretBox;
use crate::domain::time::{ElapsedTime, Timestamp};
use crate::hub::{Hub, SessionHandle, SessionMessage};
use crate::metrics::DispatchMetrics;
use crate::store::entities::commands::command;
use crate::store::writer::{BatchOperation, Operation, Reply, Submitted, SubmittedJob};
use crate::store::{Store, StoreError};

/// Delivers durable commands to live sessions. Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::services) struct CommandDelivery {
    pub(in crate::services) store: Store,
    pub(in crate::services) hub: Arc<Hub>,
    pub(in crate::services) elapsed: ElapsedTime,
    pub(in crate::services) secret_box: SecretBox,
    pub(in crate::services) metrics: DispatchMetrics,
}

/// A slot of a session, acquired for a command that is not committed as `delivered` yet.
pub(in crate::services) struct Reservation {
    session: Arc<SessionHandle>,
    outgoing: OutgoingCommand,
    /// Of a command that is new: its wait until it is sent.
    reserved_new_at: Option<Instant>,
}

impl Reservation {
    pub fn command_id(&self) -> CommandId {
        self.outgoing.row.id
    }

    /// The epoch of the session, which the commit checks.
    pub fn epoch(&self) -> i64 {
        self.session.epoch
    }
}

/// The result of a commit that may mark commands as `delivered`.
pub(in crate::services) trait DeliveredCommands {
    /// True if the commit stored this command as `delivered`.
    fn is_delivered(&self, command_id: CommandId) -> bool;
}

impl DeliveredCommands for Submitted {
    fn is_delivered(&self, _: CommandId) -> bool {
        matches!(self, Self::New { delivered: true })
    }
}

impl DeliveredCommands for SubmittedJob {
    fn is_delivered(&self, command_id: CommandId) -> bool {
        match self {
            Self::New { delivered, .. } => delivered.binary_search(&command_id).is_ok(),
            Self::Repeated { .. }
            | Self::KeyReused
            | Self::KeyInvalid
            | Self::FireNotOpen
            | Self::FireOverlaps => false,
        }
    }
}

/// What `MarkDelivered` stored.
impl DeliveredCommands for Vec<CommandId> {
    fn is_delivered(&self, command_id: CommandId) -> bool {
        self.contains(&command_id)
    }
}

impl CommandDelivery {
    /// Acquires a slot for a new command. `None` if the session has no free slot, if an older
    /// command may be queued for the agent, or if the agent does not support secret parameters or steps:
    /// the command then goes through the queue.
    pub fn reserve_new(
        &self,
        session: &Arc<SessionHandle>,
        row: &command::Model,
        (secrets, contents): (&Arc<SecretParameters>, &[Arc<ScriptContent>]),
    ) -> Option<Reservation> {
        let is_plain = secrets.is_empty() && !has_stdin(&row.data);
        let is_sendable =
            (session.supports_secrets || is_plain) && (session.supports_steps || !has_steps(row));
        if !is_sendable || !session.try_acquire_new(row.id) {
            return None;
        }
        // An agent that does not know the library refuses the command by the name of its script.
        let contents = if session.supports_library { contents.to_vec() } else { Vec::new() };
        let outgoing =
            OutgoingCommand::new(row.clone(), Arc::clone(secrets)).with_contents(contents);
        let reserved_new_at = Some(Instant::now());
        Some(Reservation { session: Arc::clone(session), outgoing, reserved_new_at })
    }

    /// Acquires a slot for a queued command; `None` if the session has no free slot.
    ///
    /// # Errors
    /// The reason why the command cannot be sent any more.
    pub fn reserve_queued(
        &self,
        session: &Arc<SessionHandle>,
        row: command::Model,
        (contents, call): (Vec<Arc<ScriptContent>>, Option<TriggerCall>),
    ) -> Result<Option<Reservation>, EndReason> {
        let permissions = &session.grant().permissions;
        if !row.command.parse().is_ok_and(|name| permissions.allows(name)) {
            return Err(EndReason::PermissionRevoked);
        }
        if has_steps(&row) && !session.supports_steps {
            return Err(EndReason::StepsUndeliverable);
        }
        let outgoing = match OutgoingCommand::open(&self.secret_box, row) {
            Ok(outgoing) if session.supports_secrets || outgoing.is_plain() => outgoing,
            Ok(outgoing) if outgoing.has_secrets() => {
                return Err(EndReason::SecretsUndeliverable);
            }
            Ok(_) => return Err(EndReason::StdinUndeliverable),
            Err(row) => {
                tracing::error!(command_id = %row.id, "failed to open a command's secret parameters");
                return Err(EndReason::SecretsUndeliverable);
            }
        };
        let contents = if session.supports_library { contents } else { Vec::new() };
        let outgoing = outgoing.with_contents(contents).with_call(call);
        let is_acquired = session.acquire(outgoing.row.id);
        let session = Arc::clone(session);
        Ok(is_acquired.then_some(Reservation { session, outgoing, reserved_new_at: None }))
    }

    /// Commits the operation, then sends what it stored as `delivered` and frees the other
    /// slots.
    ///
    /// # Errors
    /// [`StoreError`]. The sessions of all reservations are closed: the operation may be committed
    /// although its result did not arrive.
    pub async fn commit<Op>(
        &self,
        operation: Op,
        reservations: Vec<Reservation>,
        delivered_at: Timestamp,
    ) -> Result<Op::Done, StoreError>
    where
        Op: BatchOperation,
        Op::Done: DeliveredCommands,
        Operation: From<(Op, Reply<Op::Done>)>,
    {
        let committed = self.store.writer().commit(operation).await.inspect_err(|error| {
            let code = match error {
                StoreError::StaleEpoch => CloseCode::SessionReplaced,
                _ => CloseCode::TryAgainLater,
            };
            reservations.iter().for_each(|reservation| reservation.session.close(code));
        })?;
        for reservation in reservations {
            if committed.is_delivered(reservation.command_id()) {
                self.send(reservation, delivered_at);
            } else {
                self.free_slot(&reservation);
            }
        }
        Ok(committed)
    }

    fn send(&self, reservation: Reservation, delivered_at: Timestamp) {
        let Reservation { session, outgoing, reserved_new_at } = reservation;
        self.hub.notify_progress(outgoing.row.id);
        let waited_ms = match reserved_new_at {
            Some(at) => u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX),
            None => self.elapsed.ms_since(outgoing.row.created_at),
        };
        self.metrics.sent(waited_ms);
        let frame = Box::new(outgoing.into_frame(delivered_at));
        // If the session has ended meanwhile, the command stays `delivered`. The inventory of the
        // next session does not list it, which puts it back into the queue.
        session.send_or_spawn(SessionMessage::Command { frame, is_durable: true });
    }

    fn free_slot(&self, reservation: &Reservation) {
        if reservation.session.free_slot(reservation.command_id()) {
            self.hub.wake(reservation.session.agent_id);
        }
    }
}

fn has_steps(row: &command::Model) -> bool {
    row.script.as_deref().is_some_and(|script| parts_of(script).is_some())
}
