//! The live sessions by agent, and everything that may be notified.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::{Notify, watch};

use super::change_queue::{ChangeQueue, ChangedIds};
use super::event_feed::EventFeed;
use super::recent_rekeys::RecentRekeys;
use super::wake_queue::WakeQueue;
use super::{EventLog, Rekey, SessionHandle, SessionMessage};
use crate::domain::commands::approval::ApprovalState;
use crate::domain::fleet::reported_manifest::ManifestInForce;
use crate::domain::ids::{AgentId, AgentKeyId, ApprovalId, CommandId, JobId, TenantId};
use crate::domain::integrations::tenant_event::TenantEvent;

/// Live sessions and notifications. One per server.
#[derive(Debug, Default)]
pub struct Hub {
    sessions: RwLock<HashMap<AgentId, Arc<SessionHandle>>>,
    wake_queue: WakeQueue,
    /// Agents that have connected and need their assignments.
    assignment_queue: WakeQueue,
    watchers: CommandWatchers,
    change_queue: ChangeQueue,
    /// Broadcasts changes of commands.
    pub event_feed: EventFeed,
    /// Recent events, which viewers read.
    pub event_log: Arc<EventLog>,
    key_revision: AtomicU64,
    recent_rekeys: RecentRekeys,
    webhook_due: Notify,
    output_finished: Notify,
    approval_requested: Notify,
    /// Counts registered sessions.
    connect_count: watch::Sender<u64>,
}

impl Hub {
    /// Adds a session and returns the one that it replaces. A session with an older epoch than the
    /// known one is returned itself, and not added.
    pub fn register(&self, session: Arc<SessionHandle>) -> Option<Arc<SessionHandle>> {
        let mut sessions = self.sessions.write().unwrap_or_else(PoisonError::into_inner);
        match sessions.get(&session.agent_id) {
            Some(known) if known.epoch > session.epoch => Some(session),
            _ => {
                let (tenant_id, id) = (session.tenant_id, session.agent_id);
                let replaced = sessions.insert(id, session);
                if replaced.is_none() {
                    let event = TenantEvent::Agent { id, is_connected: true, manifest: None };
                    self.event_log.append(tenant_id, event);
                }
                self.connect_count.send_modify(|count| *count = count.wrapping_add(1));
                replaced
            }
        }
    }

    /// A counter that changes whenever an agent connects.
    pub fn subscribe_connects(&self) -> watch::Receiver<u64> {
        self.connect_count.subscribe()
    }

    /// Removes a session, unless a newer one has replaced it.
    pub fn unregister(&self, agent_id: AgentId, epoch: i64) {
        let mut sessions = self.sessions.write().unwrap_or_else(PoisonError::into_inner);
        if sessions.get(&agent_id).is_some_and(|session| session.epoch == epoch)
            && let Some(removed) = sessions.remove(&agent_id)
        {
            let event = TenantEvent::Agent { id: agent_id, is_connected: false, manifest: None };
            self.event_log.append(removed.tenant_id, event);
        }
    }

    /// Publishes that the plan of a tenant has no room for a new agent.
    pub fn notify_refused(&self, tenant_id: TenantId, event: TenantEvent) {
        self.event_log.append(tenant_id, event);
    }

    /// Publishes that the host of a session has rejected its manifest file, or accepted one again.
    pub fn notify_manifest(&self, session: &SessionHandle, in_force: ManifestInForce) {
        let id = session.agent_id;
        let is_connected = self.is_connected(id);
        let event = TenantEvent::Agent { id, is_connected, manifest: Some(in_force) };
        self.event_log.append(session.tenant_id, event);
    }

    /// Publishes that an agent reports other facts than before.
    pub fn notify_facts(&self, session: &SessionHandle) {
        let id = session.agent_id;
        let is_connected = self.is_connected(id);
        let event = TenantEvent::Agent { id, is_connected, manifest: None };
        self.event_log.append(session.tenant_id, event);
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

    /// Counts changes of agent keys. A session that is being registered while this changes reads its
    /// key again.
    pub fn key_revision(&self) -> u64 {
        self.key_revision.load(Ordering::SeqCst)
    }

    /// Must be called after the commit of a changed key, and before its sessions are looked up.
    pub fn bump_key_revision(&self) {
        self.key_revision.fetch_add(1, Ordering::SeqCst);
    }

    /// Keeps the new secret of a key for sessions that are opening now, or drops the one before. Must be
    /// called before [`Self::bump_key_revision`].
    pub fn keep_rekey(&self, key_id: AgentKeyId, rekey: Option<Rekey>) {
        match rekey {
            Some(rekey) => self.recent_rekeys.add(key_id, rekey),
            None => self.recent_rekeys.remove(key_id),
        }
    }

    /// The new secret of a key that was regenerated a moment ago, with a grace period.
    pub fn recent_rekey(&self, key_id: AgentKeyId) -> Option<Rekey> {
        self.recent_rekeys.get(key_id)
    }

    /// Drops the secrets that no opening session can need any more.
    pub fn forget_old_rekeys(&self) {
        self.recent_rekeys.forget_old();
    }

    /// Number of connected agents.
    pub fn len(&self) -> usize {
        self.sessions.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// True if no agent is connected.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Wakes the dispatcher for an agent that may have deliverable commands.
    pub fn wake(&self, agent_id: AgentId) {
        self.wake_queue.add(agent_id);
    }

    /// Waits for agents with a wake-up, and takes at most `limit`.
    pub async fn next_woken(&self, limit: usize) -> Vec<AgentId> {
        self.wake_queue.take(limit).await
    }

    /// Asks for the assignments of an agent that has connected, or that reports other facts.
    pub fn request_assignments(&self, agent_id: AgentId) {
        self.assignment_queue.add(agent_id);
    }

    /// Waits for agents that need their assignments, and takes at most `limit`.
    pub async fn next_assignment_requests(&self, limit: usize) -> Vec<AgentId> {
        self.assignment_queue.take(limit).await
    }

    /// Announces a new command that was not sent with its insert. `is_ready`: it may be sent now.
    pub fn announce_new(&self, agent_id: AgentId, command_id: CommandId, is_ready: bool) {
        self.notify_progress(command_id);
        if is_ready && self.is_connected(agent_id) {
            self.wake(agent_id);
        }
    }

    /// Frees the slot of a command, and wakes its agent if another command waits for one.
    pub fn free_slot(&self, agent_id: AgentId, command_id: CommandId) {
        if let Some(session) = self.session(agent_id)
            && session.free_slot(command_id)
        {
            self.wake(agent_id);
        }
    }

    /// Watches one command.
    pub fn watch_command(&self, command_id: CommandId) -> CommandWatch {
        self.watchers.subscribe(command_id)
    }

    /// Notifies that the state of a command changed, and that it may have ended.
    pub fn notify_maybe_ended(&self, command_id: CommandId) {
        self.watchers.notify_maybe_ended(command_id);
        self.change_queue.add_command(command_id);
        self.output_finished();
    }

    /// Notifies that a command was created, or changed and is still open.
    pub fn notify_progress(&self, command_id: CommandId) {
        self.watchers.notify_progress(command_id);
        self.queue_for_viewers(command_id);
    }

    /// Notifies that a command ended, and its job if it has one.
    pub fn notify_ended(&self, command_id: CommandId, job_id: Option<JobId>) {
        self.watchers.notify_maybe_ended(command_id);
        self.queue_for_viewers(command_id);
        if let Some(job_id) = job_id {
            self.notify_job_changed(job_id);
        }
    }

    fn queue_for_viewers(&self, command_id: CommandId) {
        if self.event_feed.has_subscribers() {
            self.change_queue.add_command(command_id);
        }
    }

    /// Notifies that a command has new output. Its state did not change.
    pub fn output_appended(&self, command_id: CommandId) {
        self.watchers.notify_progress(command_id);
    }

    /// Notifies that a job or one of its executions changed.
    pub fn notify_job_changed(&self, job_id: JobId) {
        self.change_queue.add_job(job_id);
    }

    /// Waits for changes, and takes all of them. For one reader.
    pub async fn next_changes(&self) -> ChangedIds {
        self.change_queue.take().await
    }

    /// Returns changes that could not be processed.
    pub fn requeue_changes(&self, changed: ChangedIds) {
        self.change_queue.requeue(changed);
    }

    /// Number of agents that wait for the dispatcher.
    pub fn waiting_wakes(&self) -> usize {
        self.wake_queue.len()
    }

    /// Notifies that a webhook may be due.
    pub fn notify_webhook_due(&self) {
        self.webhook_due.notify_one();
    }

    /// Waits for [`Self::notify_webhook_due`]; returns at once if it was called before.
    pub fn wait_webhook_due(&self) -> tokio::sync::futures::Notified<'_> {
        self.webhook_due.notified()
    }

    /// Publishes a new request for approval, and wakes the worker that ends it in time.
    pub fn notify_approval_requested(&self, tenant_id: TenantId, id: ApprovalId) {
        let event = TenantEvent::Approval { id, state: ApprovalState::Pending };
        self.event_log.append(tenant_id, event);
        self.approval_requested.notify_one();
    }

    /// Waits for [`Self::notify_approval_requested`]; returns at once if it was called before.
    pub fn wait_approval_requested(&self) -> tokio::sync::futures::Notified<'_> {
        self.approval_requested.notified()
    }

    /// Notifies that the output of a command may be complete.
    pub fn output_finished(&self) {
        self.output_finished.notify_one();
    }

    /// Waits for [`Self::output_finished`]; returns at once if it was called before.
    pub async fn wait_output_finished(&self) {
        self.output_finished.notified().await;
    }

    /// Asks every agent to reconnect, each after its own delay, so that they do not all reconnect at
    /// once.
    pub fn drain(&self, mut delay_ms: impl FnMut() -> u64) {
        for session in self.sessions() {
            session.send_or_spawn(SessionMessage::Drain { reconnect_delay_ms: delay_ms() });
        }
    }
}

/// The notifiers of each watched command, and how many watches share them.
type Map = Mutex<HashMap<CommandId, (Arc<Notifiers>, usize)>>;

/// Two of them, so that progress does not wake requests that wait for the end.
#[derive(Debug, Default)]
struct Notifiers {
    change: Notify,
    end: Notify,
}

/// Has entries only for commands that are being watched.
#[derive(Debug, Default)]
pub struct CommandWatchers(Arc<Map>);

/// A watch on one command. It ends when dropped.
#[derive(Debug)]
pub struct CommandWatch {
    command_id: CommandId,
    notifiers: Arc<Notifiers>,
    map: Arc<Map>,
}

impl CommandWatchers {
    pub fn subscribe(&self, command_id: CommandId) -> CommandWatch {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (notifiers, watch_count) = map.entry(command_id).or_default();
        *watch_count += 1;
        let notifiers = Arc::clone(notifiers);
        CommandWatch { command_id, notifiers, map: Arc::clone(&self.0) }
    }

    /// Notifies of a change that is not the end of the command.
    pub fn notify_progress(&self, command_id: CommandId) {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((notifiers, _)) = map.get(&command_id) {
            notifiers.change.notify_waiters();
        }
    }

    /// Notifies of a change that may be the end of the command.
    pub fn notify_maybe_ended(&self, command_id: CommandId) {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((notifiers, _)) = map.get(&command_id) {
            notifiers.change.notify_waiters();
            notifiers.end.notify_waiters();
        }
    }
}

impl CommandWatch {
    /// Waits for a change. Enable it before reading the database, or a change may be missed.
    pub fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.notifiers.change.notified()
    }

    /// Waits for a change that may be the end. Enable it before reading, as above.
    pub fn ended(&self) -> tokio::sync::futures::Notified<'_> {
        self.notifiers.end.notified()
    }
}

impl Drop for CommandWatch {
    fn drop(&mut self) {
        let mut map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, watch_count)) = map.get_mut(&self.command_id) {
            *watch_count -= 1;
            if *watch_count == 0 {
                map.remove(&self.command_id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn progress_does_not_wake_a_request_that_waits_for_the_end() {
        let (watchers, id) = (CommandWatchers::default(), CommandId::new());
        let watch = watchers.subscribe(id);
        let (mut changed, mut ended) = (Box::pin(watch.changed()), Box::pin(watch.ended()));
        changed.as_mut().enable();
        ended.as_mut().enable();
        watchers.notify_progress(id);
        assert!(changed.as_mut().now_or_never().is_some());
        assert!(ended.as_mut().now_or_never().is_none());
        watchers.notify_maybe_ended(id);
        assert!(ended.now_or_never().is_some());
    }
}
