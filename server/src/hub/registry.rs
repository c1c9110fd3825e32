//! The live sessions by agent.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::{Notify, watch};

use super::change_queue::{Changed, Changes};
use super::command_watchers::CommandWatchers;
use super::event_feed::Events;
use super::wake_queue::WakeQueue;
use super::{EventLog, SessionHandle, SessionMessage, Subscription};
use crate::domain::ids::{AgentId, AgentKeyId, CommandId, JobId};
use crate::domain::integrations::tenant_event::TenantEvent;

/// Everything that is connected to this server. One per server.
#[derive(Debug, Default)]
pub struct Hub {
    sessions: RwLock<HashMap<AgentId, Arc<SessionHandle>>>,
    wakes: WakeQueue,
    watches: CommandWatchers,
    changes: Changes,
    /// Changes of commands, for whoever looks on.
    pub events: Events,
    /// What happened lately, as viewers are told.
    pub timeline: Arc<EventLog>,
    key_revision: AtomicU64,
    /// A webhook may be due.
    webhooks: Notify,
    /// Output may have come to its end.
    outputs: Notify,
    /// Counts sessions that entered.
    arrivals: watch::Sender<u64>,
}

impl Hub {
    /// Enters a session; gives back the one that it replaces. An older epoch replaces nothing:
    /// it is given back itself.
    pub fn enter(&self, session: Arc<SessionHandle>) -> Option<Arc<SessionHandle>> {
        let mut sessions = self.sessions.write().unwrap_or_else(PoisonError::into_inner);
        match sessions.get(&session.agent_id) {
            Some(known) if known.epoch > session.epoch => Some(session),
            _ => {
                let (tenant_id, id) = (session.tenant_id, session.agent_id);
                let replaced = sessions.insert(id, session);
                if replaced.is_none() {
                    let event = TenantEvent::Agent { id, is_connected: true };
                    self.timeline.tell(tenant_id, event);
                }
                self.arrivals.send_modify(|count| *count = count.wrapping_add(1));
                replaced
            }
        }
    }

    /// Changes whenever an agent connects.
    pub fn arrivals(&self) -> watch::Receiver<u64> {
        self.arrivals.subscribe()
    }

    /// Removes a session, unless a newer one has taken its place.
    pub fn leave(&self, agent_id: AgentId, epoch: i64) {
        let mut sessions = self.sessions.write().unwrap_or_else(PoisonError::into_inner);
        if sessions.get(&agent_id).is_some_and(|session| session.epoch == epoch)
            && let Some(left) = sessions.remove(&agent_id)
        {
            let event = TenantEvent::Agent { id: agent_id, is_connected: false };
            self.timeline.tell(left.tenant_id, event);
        }
    }

    /// The live session of an agent.
    pub fn session(&self, agent_id: AgentId) -> Option<Arc<SessionHandle>> {
        self.sessions.read().unwrap_or_else(PoisonError::into_inner).get(&agent_id).cloned()
    }

    /// True if the agent is connected.
    pub fn is_connected(&self, agent_id: AgentId) -> bool {
        self.sessions.read().unwrap_or_else(PoisonError::into_inner).contains_key(&agent_id)
    }

    /// Every live session.
    pub fn sessions(&self) -> Vec<Arc<SessionHandle>> {
        self.sessions.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The live sessions of one agent key.
    pub fn sessions_of_key(&self, key_id: AgentKeyId) -> Vec<Arc<SessionHandle>> {
        let sessions = self.sessions.read().unwrap_or_else(PoisonError::into_inner);
        sessions.values().filter(|session| session.grant().key_id == key_id).cloned().collect()
    }

    /// Counts changes of agent keys. A session that was entering the hub while it changed looks
    /// at its key again.
    pub fn key_revision(&self) -> u64 {
        self.key_revision.load(Ordering::SeqCst)
    }

    /// Says that a key was changed. To be called after the commit and before the key's sessions
    /// are looked up.
    pub fn keys_changed(&self) {
        self.key_revision.fetch_add(1, Ordering::SeqCst);
    }

    /// How many agents are connected.
    pub fn len(&self) -> usize {
        self.sessions.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// True if no agent is connected.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Says that something may be deliverable to an agent.
    pub fn wake(&self, agent_id: AgentId) {
        self.wakes.add(agent_id);
    }

    /// Waits for agents that were woken; at most `limit`.
    pub async fn woken(&self, limit: usize) -> Vec<AgentId> {
        self.wakes.take(limit).await
    }

    /// Gives a command's place in its agent's window back.
    pub fn release(&self, agent_id: AgentId, command_id: CommandId) {
        if let Some(session) = self.session(agent_id)
            && session.release(command_id)
        {
            self.wake(agent_id);
        }
    }

    /// Asks to be woken when something of a command changes.
    pub fn watch(&self, command_id: CommandId) -> Subscription {
        self.watches.subscribe(command_id)
    }

    /// Says that a command's state may have changed, its end included.
    pub fn notify_maybe_ended(&self, command_id: CommandId) {
        self.watches.changed(command_id);
        self.changes.add_command(command_id);
        self.output_finished();
    }

    /// Says that a command was made, or moved on and is still open.
    pub fn notify_progress(&self, command_id: CommandId) {
        self.watches.notify_progress(command_id);
        self.note_if_wanted(command_id);
    }

    /// Says that a command ended, which is of this job, if of any.
    pub fn notify_ended(&self, command_id: CommandId, job_id: Option<JobId>) {
        self.watches.changed(command_id);
        self.note_if_wanted(command_id);
        if let Some(job_id) = job_id {
            self.job_changed(job_id);
        }
    }

    fn note_if_wanted(&self, command_id: CommandId) {
        if self.events.is_wanted() {
            self.changes.add_command(command_id);
        }
    }

    /// Says that there is more output of a command, whose state is as it was.
    pub fn output_appended(&self, command_id: CommandId) {
        self.watches.notify_progress(command_id);
    }

    /// Says that something of a job changed.
    pub fn job_changed(&self, job_id: JobId) {
        self.changes.add_job(job_id);
    }

    /// Waits for changes, and takes them. For one reader.
    pub async fn changes(&self) -> Changed {
        self.changes.take().await
    }

    /// Gives back changes that could not be looked at.
    pub fn changed_again(&self, changed: Changed) {
        self.changes.add_again(changed);
    }

    /// How many agents wait for the dispatcher.
    pub fn waiting_wakes(&self) -> usize {
        self.wakes.len()
    }

    /// Says that a webhook may be due.
    pub fn webhook_due(&self) {
        self.webhooks.notify_one();
    }

    /// Waits for a webhook that may be due, also one of which it was said before.
    pub fn until_webhook_due(&self) -> tokio::sync::futures::Notified<'_> {
        self.webhooks.notified()
    }

    /// Says that the output of a command may have come to its end.
    pub fn output_finished(&self) {
        self.outputs.notify_one();
    }

    /// Waits for output that may have come to its end, also such of which it was said before.
    pub async fn until_output_over(&self) {
        self.outputs.notified().await;
    }

    /// Tells every session to leave, each after its own delay, so that they don't all come back
    /// at once.
    pub fn drain(&self, mut delay_ms: impl FnMut() -> u64) {
        for session in self.sessions() {
            session.send_or_spawn(SessionMessage::Drain { reconnect_delay_ms: delay_ms() });
        }
    }
}
