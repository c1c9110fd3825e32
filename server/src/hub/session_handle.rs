//! The handle of one live session, which the rest of the server uses.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use muster_protocol::frame::Command;
use muster_protocol::package::AssignedItem;
use muster_protocol::{CloseCode, CommandName, Permissions};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};

use super::pending_replies::PendingReplies;
use crate::domain::fleet::forbidden_commands::ForbiddenCommands;
use crate::domain::fleet::reported_manifest::ManifestDigest;
use crate::domain::ids::{AgentId, AgentKeyId, CommandId, TenantId};
use crate::domain::time::Timestamp;

/// Smallest capacity of a mailbox.
const MIN_MAILBOX: usize = 32;

/// A message to a session. Mailboxes allocate their capacity when the session starts, so large and
/// rare variants are boxed.
#[derive(Debug)]
pub enum SessionMessage {
    /// Send a command. A durable one holds a slot.
    Command { frame: Box<Command>, is_durable: bool },
    /// Ask the agent to cancel a command.
    Cancel(Box<CommandId>),
    /// Send the agent the new permissions of its key.
    Grant(Arc<KeyGrant>),
    /// Send the agent the new secret of its key.
    Rekey(Box<Rekey>),
    /// Send the agent what it must know of the server's authority.
    Authorities,
    /// Send the agent everything that is assigned to it.
    Assignments(Box<[AssignedItem]>),
    /// Ask the agent to reconnect after this delay, and end the session.
    Drain { reconnect_delay_ms: u64 },
}

/// An agent key's new secret.
#[derive(Debug, Clone)]
pub struct Rekey {
    pub key: Box<str>,
    /// How long the old secret stays valid.
    pub grace_ms: u64,
}

/// What an agent key allows its agents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyGrant {
    pub key_id: AgentKeyId,
    pub tenant_id: TenantId,
    pub permissions: Permissions,
    pub max_agents: i32,
    pub is_disabled: bool,
    pub expires_at: Option<Timestamp>,
}

/// What [`SessionHandle::new`] needs.
#[derive(Debug)]
pub struct SessionParams {
    pub agent_id: AgentId,
    pub tenant_id: TenantId,
    pub epoch: i64,
    /// A full agent supports exactly its capabilities; for a basic one they are a hint.
    pub is_full: bool,
    pub capabilities: Vec<CommandName>,
    /// The agent polls for its frames over HTTP.
    pub is_http: bool,
    /// The agent protects secret parameters and masks them in output.
    pub supports_secrets: bool,
    /// The agent runs scripts of the library.
    pub supports_library: bool,
    pub supports_packages: bool,
    pub supports_files: bool,
    pub supports_steps: bool,
    pub supports_assignments: bool,
    pub supports_assigned_scripts: bool,
    /// Most durable commands that the agent may have at once.
    pub max_in_flight: usize,
    pub grant: Arc<KeyGrant>,
    /// When the presented secret becomes invalid, if it was replaced.
    pub secret_until: Option<Timestamp>,
}

/// The handle of a live session.
#[derive(Debug)]
pub struct SessionHandle {
    pub agent_id: AgentId,
    pub tenant_id: TenantId,
    pub epoch: i64,
    pub is_full: bool,
    pub is_http: bool,
    pub supports_secrets: bool,
    pub supports_library: bool,
    pub supports_packages: bool,
    pub supports_files: bool,
    pub supports_steps: bool,
    supports_assignments: bool,
    supports_assigned_scripts: bool,
    /// The agent was sent assignments, or it is not known what it has.
    has_assignments: AtomicBool,
    pub pending_replies: PendingReplies,
    /// Reported by full agents.
    pub rules: ReportedRules,
    capabilities: Vec<CommandName>,
    max_in_flight: usize,
    grant: RwLock<Arc<KeyGrant>>,
    mailbox: mpsc::Sender<SessionMessage>,
    /// Durable commands that hold a slot.
    in_flight: Mutex<HashSet<CommandId>>,
    is_ready: AtomicBool,
    /// A command was refused a slot since the last slot was freed.
    is_starved: AtomicBool,
    /// An older command may be queued, so a new one must go through the queue.
    has_backlog: AtomicBool,
    close: watch::Sender<Option<CloseCode>>,
    /// When the secret of the session becomes invalid, if it was replaced.
    secret_until: Mutex<Option<Timestamp>>,
}

/// The session has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session has ended")]
pub struct SessionGone;

impl SessionHandle {
    /// A handle, and the messages that its session reads.
    pub fn new(params: SessionParams) -> (Arc<Self>, mpsc::Receiver<SessionMessage>) {
        let (mailbox, messages) = mpsc::channel(MIN_MAILBOX.max(params.max_in_flight.min(1_024)));
        let handle = Self {
            agent_id: params.agent_id,
            tenant_id: params.tenant_id,
            epoch: params.epoch,
            is_full: params.is_full,
            is_http: params.is_http,
            supports_secrets: params.supports_secrets,
            supports_library: params.supports_library,
            supports_packages: params.supports_packages,
            supports_files: params.supports_files,
            supports_steps: params.supports_steps,
            supports_assignments: params.supports_assignments,
            supports_assigned_scripts: params.supports_assigned_scripts,
            has_assignments: AtomicBool::new(true),
            pending_replies: PendingReplies::default(),
            rules: ReportedRules::default(),
            capabilities: params.capabilities,
            max_in_flight: params.max_in_flight,
            grant: RwLock::new(params.grant),
            mailbox,
            in_flight: Mutex::default(),
            is_ready: AtomicBool::new(false),
            is_starved: AtomicBool::new(false),
            has_backlog: AtomicBool::new(true),
            close: watch::Sender::new(None),
            secret_until: Mutex::new(params.secret_until),
        };
        (Arc::new(handle), messages)
    }

    /// What the agent's key allows now.
    pub fn grant(&self) -> Arc<KeyGrant> {
        Arc::clone(&self.grant.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces what the key allows.
    pub fn set_grant(&self, grant: Arc<KeyGrant>) {
        *self.grant.write().unwrap_or_else(PoisonError::into_inner) = grant;
    }

    /// Sets when the secret of this session becomes invalid, because it was replaced.
    pub fn expire_secret_at(&self, until: Timestamp) {
        *self.secret_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    /// True if the secret of this session is no longer valid.
    pub fn is_secret_over(&self, now: Timestamp) -> bool {
        let until = *self.secret_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| until <= now)
    }

    /// True unless the agent reported capabilities without this command.
    pub fn supports(&self, command: CommandName) -> bool {
        !self.is_full || self.capabilities.contains(&command)
    }

    /// Ends the session. Never waits and is never lost; the first code counts.
    pub fn close(&self, code: CloseCode) {
        self.close.send_if_modified(|slot| {
            let is_first = slot.is_none();
            slot.get_or_insert(code);
            is_first
        });
    }

    /// Waits for [`Self::close`] and returns its code.
    pub async fn closed(&self) -> CloseCode {
        let mut close = self.close.subscribe();
        loop {
            if let Some(code) = *close.borrow_and_update() {
                return code;
            }
            if close.changed().await.is_err() {
                return CloseCode::TryAgainLater;
            }
        }
    }

    /// Queues a message without making the caller wait, in a task if the mailbox is full. Only for
    /// commands with a slot, which bounds the tasks, and for actions of people.
    pub fn send_or_spawn(self: &Arc<Self>, message: SessionMessage) {
        if let Err(TrySendError::Full(message)) = self.mailbox.try_send(message) {
            let session = Arc::clone(self);
            // If the session ends first, the inventory of the next one puts the command back.
            tokio::spawn(async move { session.send(message).await });
        }
    }

    /// Messages in the mailbox.
    pub fn queued_messages(&self) -> usize {
        self.mailbox.max_capacity() - self.mailbox.capacity()
    }

    /// Queues a message; waits while the mailbox is full.
    ///
    /// # Errors
    /// [`SessionGone`] if the session has ended.
    pub async fn send(&self, message: SessionMessage) -> Result<(), SessionGone> {
        self.mailbox.send(message).await.map_err(|_| SessionGone)
    }

    /// Opens the session for durable commands. `in_flight`: the commands that the agent already has.
    pub fn make_ready(&self, in_flight: impl IntoIterator<Item = CommandId>) {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner).extend(in_flight);
        self.is_ready.store(true, Ordering::Release);
    }

    /// True if assignments may be sent: the agent understands them, and its inventory is reconciled.
    pub fn takes_assignments(&self) -> bool {
        self.supports_assignments && self.is_ready.load(Ordering::Acquire)
    }

    /// True if these may be scripts of the library.
    pub fn takes_assigned_scripts(&self) -> bool {
        self.supports_assigned_scripts && self.takes_assignments()
    }

    /// True unless the agent was sent an empty list of assignments.
    pub fn has_assignments(&self) -> bool {
        self.has_assignments.load(Ordering::Acquire)
    }

    /// Sets whether the list of assignments that is sent now has any.
    pub fn set_has_assignments(&self, has_assignments: bool) {
        self.has_assignments.store(has_assignments, Ordering::Release);
    }

    /// Queues a message unless the mailbox is full. False if it was dropped.
    pub fn send_if_free(&self, message: SessionMessage) -> bool {
        self.mailbox.try_send(message).is_ok()
    }

    /// Acquires a slot for a new command. False if no slot is free, or if an older command may be
    /// queued, which goes first.
    pub fn try_acquire_new(&self, command_id: CommandId) -> bool {
        let is_acquired = !self.has_backlog.load(Ordering::Acquire) && self.acquire(command_id);
        if !is_acquired {
            self.has_backlog.store(true, Ordering::Release);
        }
        is_acquired
    }

    /// Sets whether commands may still be queued for this agent.
    pub fn set_backlog(&self, has_backlog: bool) {
        self.has_backlog.store(has_backlog, Ordering::Release);
    }

    /// Acquires a slot. False if none is free; the next [`Self::free_slot`] then returns true.
    pub fn acquire(&self, command_id: CommandId) -> bool {
        if !self.is_ready.load(Ordering::Acquire) {
            return false;
        }
        let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        if in_flight.len() >= self.max_in_flight {
            self.is_starved.store(true, Ordering::Release);
            return false;
        }
        in_flight.insert(command_id)
    }

    /// Free slots; none before the session is ready.
    pub fn free_slots(&self) -> usize {
        if !self.is_ready.load(Ordering::Acquire) {
            return 0;
        }
        let in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        let free = self.max_in_flight.saturating_sub(in_flight.len());
        if free == 0 {
            self.is_starved.store(true, Ordering::Release);
        }
        free
    }

    /// The next slot that becomes free wakes the agent: a command waits for the end of another one.
    pub fn wake_at_next_free_slot(&self) {
        self.is_starved.store(true, Ordering::Release);
    }

    /// Frees a slot. True if a command was refused one meanwhile: its agent must be woken.
    pub fn free_slot(&self, command_id: CommandId) -> bool {
        let freed =
            self.in_flight.lock().unwrap_or_else(PoisonError::into_inner).remove(&command_id);
        freed && self.is_starved.swap(false, Ordering::AcqRel)
    }
}

/// The last report of one host. Every field is empty until it reports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostRules {
    /// Digest of its manifest.
    pub manifest: Option<ManifestDigest>,
    /// Why a newer manifest is not in force.
    pub manifest_error: Option<Arc<str>>,
    /// `manifest`, `library` or `shell`.
    pub policy: Option<Arc<str>>,
    /// Life-cycle commands that the host's policy forbids.
    pub forbidden: ForbiddenCommands,
}

/// The last report within a session.
#[derive(Debug, Default)]
pub struct ReportedRules(RwLock<HostRules>);

impl ReportedRules {
    /// The last report.
    pub fn get(&self) -> HostRules {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stores a new report and returns the previous one.
    pub fn replace(&self, rules: HostRules) -> HostRules {
        std::mem::replace(&mut self.0.write().unwrap_or_else(PoisonError::into_inner), rules)
    }
}
