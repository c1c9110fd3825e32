//! From the queue to agents that have room.

use std::collections::HashMap;
use std::sync::Arc;

use muster_protocol::frame::Command;
use serde_json::Value;

use crate::domain::ids::{AgentId, CommandId};
use crate::domain::time::{Clock, Timestamp};
use crate::hub::{Hub, SessionHandle, ToSession};
use crate::store::entities::command;
use crate::store::writer::MarkDelivered;
use crate::store::{Store, StoreError};

/// Commands that one round delivers at the most.
const ROUND: u64 = 2_000;

/// Delivers what is queued.
#[derive(Clone, Debug)]
pub struct Dispatch {
    pub(super) store: Store,
    pub(super) hub: Arc<Hub>,
    pub(super) clock: Clock,
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
        let now = self.clock.now();
        let ids: Vec<_> = sessions.keys().copied().collect();
        let rows = self.store.system().deliverable(&ids, now, ROUND).await?;
        let is_cut = rows.len() as u64 == ROUND;
        let mut by_agent: HashMap<AgentId, Vec<command::Model>> = HashMap::new();
        for row in rows {
            // The place is taken before the commit, so that nobody else counts on it.
            if sessions[&row.agent_id].hold(row.id) {
                by_agent.entry(row.agent_id).or_default().push(row);
            }
        }
        let mut waits = Vec::with_capacity(by_agent.len());
        for (agent_id, rows) in by_agent {
            let session = Arc::clone(&sessions[&agent_id]);
            let operation = MarkDelivered {
                agent_id,
                epoch: session.epoch,
                command_ids: rows.iter().map(|row| row.id).collect(),
                now,
            };
            waits.push((session, rows, self.store.writer().enqueue(operation).await?));
        }
        let mut failure = None;
        for (session, rows, wait) in waits {
            match wait.await {
                Ok(delivered) => self.send(&session, rows, &delivered, now),
                Err(error) => {
                    self.give_back(&session, rows.iter().map(|row| row.id));
                    // A session that was replaced is served by its successor.
                    if !matches!(error, StoreError::StaleEpoch) {
                        failure = Some(error);
                    }
                }
            }
        }
        if is_cut {
            agents.iter().for_each(|id| self.hub.wake(*id));
        }
        failure.map_or(Ok(()), Err)
    }

    fn send(
        &self,
        session: &Arc<SessionHandle>,
        rows: Vec<command::Model>,
        delivered: &[CommandId],
        now: Timestamp,
    ) {
        for row in rows {
            let id = row.id;
            if !delivered.contains(&id) {
                self.give_back(session, [id]);
                continue;
            }
            self.hub.changed(id);
            let frame = Box::new(to_frame(row, now));
            // If the session has ended, the command stays `delivered`; the next session's
            // inventory does not list it, which puts it back into the queue.
            session.tell_in_time(ToSession::Command { frame, held: true });
        }
    }

    fn give_back(&self, session: &SessionHandle, ids: impl IntoIterator<Item = CommandId>) {
        for id in ids {
            if session.release(id) {
                self.hub.wake(session.agent_id);
            }
        }
    }
}

/// The frame of a stored command.
pub(super) fn to_frame(row: command::Model, now: Timestamp) -> Command {
    Command {
        command_id: row.id.0,
        command: row.command,
        // What is stored was JSON when it was written.
        data: serde_json::from_str(&row.data).unwrap_or(Value::Null),
        timestamp: now.to_string(),
        start_within_ms: Some(row.expires_at.ms_since(now)),
    }
}
