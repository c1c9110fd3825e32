//! From the queue to agents that have room.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use muster_protocol::CloseCode;

use super::secret_parameters::Outgoing;
use crate::domain::commands::command_state::EndReason;
use crate::domain::ids::{AgentId, CommandId};
use crate::domain::secret_box::SecretBox;
use crate::domain::time::{Clock, Timestamp};
use crate::hub::{Hub, SessionHandle, SessionMessage};
use crate::metrics::DispatchMetrics;
use crate::store::entities::commands::command;
use crate::store::writer::MarkDelivered;
use crate::store::{Store, StoreError};

/// Commands that one round delivers at the most.
const ROUND: u64 = 1_000;

/// Delivers what is queued.
#[derive(Clone, Debug)]
pub struct Dispatch {
    pub(in crate::services) store: Store,
    pub(in crate::services) hub: Arc<Hub>,
    pub(in crate::services) clock: Clock,
    pub(in crate::services) secret_box: SecretBox,
    pub(in crate::services) meters: DispatchMetrics,
}

impl Dispatch {
    /// Delivers to some agents whatever is queued for them and fits their windows.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is sent that is not committed as delivered.
    pub async fn deliver(&self, agents: &[AgentId]) -> Result<(), StoreError> {
        let sessions: HashMap<AgentId, Arc<SessionHandle>> = agents
            .iter()
            .filter_map(|id| self.hub.session(*id))
            .filter(|session| session.room() > 0)
            .map(|session| (session.agent_id, session))
            .collect();
        if sessions.is_empty() {
            return Ok(());
        }
        let ids: Vec<_> = sessions.keys().copied().collect();
        let room = sessions.values().map(|session| session.room()).max().unwrap_or(0) as u64;
        // From here on new commands go into the queue, behind what is read now.
        sessions.values().for_each(|session| session.set_backlog(true));
        // One more than the largest room tells whether anything is left.
        let due = self.clock.now();
        let rows = self.store.system().deliverable(&ids, due, room + 1, ROUND).await?;
        // Later than whatever was read: nothing is delivered before it was made.
        let now = self.clock.now();
        let is_cut = rows.len() as u64 == ROUND;
        let mut by_agent: HashMap<AgentId, Vec<Outgoing>> = HashMap::new();
        let mut read: HashMap<AgentId, u64> = HashMap::new();
        let mut left = HashSet::new();
        let mut refused: HashMap<EndReason, Vec<(CommandId, AgentId)>> = HashMap::new();
        for row in rows {
            *read.entry(row.agent_id).or_default() += 1;
            let session = &sessions[&row.agent_id];
            let (id, agent_id) = (row.id, row.agent_id);
            match self.prepare(session, row) {
                Err(reason) => refused.entry(reason).or_default().push((id, agent_id)),
                // The place is taken before the commit, so that nobody else counts on it.
                Ok(outgoing) if session.hold(id) => {
                    by_agent.entry(agent_id).or_default().push(outgoing);
                }
                Ok(_) => {
                    left.insert(agent_id);
                }
            }
        }
        for session in sessions.values() {
            let agent_id = session.agent_id;
            if is_cut || read.get(&agent_id).is_some_and(|count| *count > room) {
                // There may be more than was read, and places may have come free meanwhile.
                self.hub.wake(agent_id);
            } else if !left.contains(&agent_id) {
                session.set_backlog(false);
            }
        }
        let mut waits = Vec::with_capacity(by_agent.len());
        for (agent_id, outgoing) in by_agent {
            let session = Arc::clone(&sessions[&agent_id]);
            let operation = MarkDelivered {
                agent_id,
                epoch: session.epoch,
                command_ids: outgoing.iter().map(|outgoing| outgoing.row.id).collect(),
                now,
            };
            waits.push((session, outgoing, self.store.writer().enqueue(operation).await?));
        }
        let mut failure = None;
        for (session, outgoing, wait) in waits {
            match wait.await {
                Ok(delivered) => self.send(&session, outgoing, &delivered, now),
                // A session that was replaced is served by its successor.
                Err(StoreError::StaleEpoch) => session.close(CloseCode::SessionReplaced),
                Err(error) => {
                    // They may stand as delivered, though no frame has left: the next session's
                    // inventory tells.
                    session.close(CloseCode::TryAgainLater);
                    failure = Some(error);
                }
            }
        }
        for (reason, refused) in refused {
            self.refuse(refused, reason, now).await?;
        }
        failure.map_or(Ok(()), Err)
    }

    fn send(
        &self,
        session: &Arc<SessionHandle>,
        outgoing: Vec<Outgoing>,
        delivered: &[CommandId],
        now: Timestamp,
    ) {
        for outgoing in outgoing {
            let id = outgoing.row.id;
            if !delivered.contains(&id) {
                self.give_back(session, [id]);
                continue;
            }
            self.hub.notify_progress(id);
            self.meters.sent(self.clock.now().ms_since(outgoing.row.created_at));
            let frame = Box::new(outgoing.into_frame(now));
            // If the session has ended, the command stays `delivered`; the next session's
            // inventory does not list it, which puts it back into the queue.
            session.send_or_spawn(SessionMessage::Command { frame, held: true });
        }
    }

    /// Opens what is to be sent, unless it can't be sent any more.
    fn prepare(&self, session: &SessionHandle, row: command::Model) -> Result<Outgoing, EndReason> {
        if !is_allowed(session, &row) {
            return Err(EndReason::PermissionRevoked);
        }
        match Outgoing::open(&self.secret_box, row) {
            Ok(outgoing) if session.takes_secrets || !outgoing.has_secrets() => Ok(outgoing),
            Ok(_) => Err(EndReason::SecretsUndeliverable),
            Err(row) => {
                tracing::error!(command_id = %row.id, "failed to open a command's secret parameters");
                Err(EndReason::SecretsUndeliverable)
            }
        }
    }

    /// Ends what can't be sent any more, though it could be when it was submitted.
    async fn refuse(
        &self,
        refused: Vec<(CommandId, AgentId)>,
        reason: EndReason,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for (command_id, _) in self.store.system().refuse_queued(refused, reason, now).await? {
            self.hub.notify_maybe_ended(command_id);
        }
        Ok(())
    }

    fn give_back(&self, session: &SessionHandle, ids: impl IntoIterator<Item = CommandId>) {
        for id in ids {
            if session.release(id) {
                self.hub.wake(session.agent_id);
            }
        }
    }
}

fn is_allowed(session: &SessionHandle, row: &command::Model) -> bool {
    row.command.parse().is_ok_and(|name| session.grant().permissions.allows(name))
}
