//! One live session, as the rest of the server sees it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use muster_protocol::frame::Command;
use muster_protocol::{CloseCode, CommandName, Permissions};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};

use super::host_rules::ReportedRules;
use super::pending_replies::PendingReplies;
use crate::domain::ids::{AgentId, AgentKeyId, CommandId, TenantId};
use crate::domain::time::Timestamp;

/// Messages that may wait for one session.
const MAILBOX: usize = 32;

/// What the server tells a session to do. Every mailbox has room for 32 from its first day, so what
/// is seldom sent stands in a box.
#[derive(Debug)]
pub enum SessionMessage {
    /// Send a command. `held` if it takes a place in the window: a durable one.
    Command { frame: Box<Command>, held: bool },
    /// Tell the agent to end a command.
    Cancel(Box<CommandId>),
    /// Tell the agent what its key allows now.
    Grant(Arc<KeyGrant>),
    /// Hand the agent its key's new secret.
    Rekey(Box<Rekey>),
    /// Tell the agent to come back later, and end.
    Drain { reconnect_delay_ms: u64 },
}

/// An agent key's new secret.
#[derive(Debug)]
pub struct Rekey {
    pub key: Box<str>,
    /// How long the old one is good for.
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

/// What a handle is made of.
#[derive(Debug)]
pub struct SessionParts {
    pub agent_id: AgentId,
    pub tenant_id: TenantId,
    pub epoch: i64,
    /// Full agents can carry out what they list; of basic ones the list is advice.
    pub is_full: bool,
    pub capabilities: Vec<CommandName>,
    /// It asks for its frames over HTTP, request by request.
    pub is_http: bool,
    /// It keeps secret parameters, and masks them.
    pub takes_secrets: bool,
    /// Durable commands that the agent may hold at once.
    pub window: usize,
    pub grant: Arc<KeyGrant>,
    /// When the secret ends that was presented, if it was replaced by another.
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
    pub takes_secrets: bool,
    pub waiters: PendingReplies,
    /// Of a full agent.
    pub rules: ReportedRules,
    capabilities: Vec<CommandName>,
    window: usize,
    grant: RwLock<Arc<KeyGrant>>,
    mailbox: mpsc::Sender<SessionMessage>,
    held: Mutex<HashSet<CommandId>>,
    is_ready: AtomicBool,
    is_starved: AtomicBool,
    /// Something older may be queued: a new command waits behind it.
    has_backlog: AtomicBool,
    close: watch::Sender<Option<CloseCode>>,
    /// When the secret ends that the session was opened with, if it was replaced.
    secret_until: Mutex<Option<Timestamp>>,
}

/// The session has ended, or does not read its mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session has ended or is overloaded")]
pub struct Unreachable;

impl SessionHandle {
    /// A handle and the mail that its session reads.
    pub fn new(parts: SessionParts) -> (Arc<Self>, mpsc::Receiver<SessionMessage>) {
        let (mailbox, mail) = mpsc::channel(MAILBOX.max(parts.window.min(1_024)));
        let handle = Self {
            agent_id: parts.agent_id,
            tenant_id: parts.tenant_id,
            epoch: parts.epoch,
            is_full: parts.is_full,
            is_http: parts.is_http,
            takes_secrets: parts.takes_secrets,
            waiters: PendingReplies::default(),
            rules: ReportedRules::default(),
            capabilities: parts.capabilities,
            window: parts.window,
            grant: RwLock::new(parts.grant),
            mailbox,
            held: Mutex::default(),
            is_ready: AtomicBool::new(false),
            is_starved: AtomicBool::new(false),
            has_backlog: AtomicBool::new(true),
            close: watch::Sender::new(None),
            secret_until: Mutex::new(parts.secret_until),
        };
        (Arc::new(handle), mail)
    }

    /// What the agent's key allows, as it stands now.
    pub fn grant(&self) -> Arc<KeyGrant> {
        Arc::clone(&self.grant.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces what the key allows.
    pub fn set_grant(&self, grant: Arc<KeyGrant>) {
        *self.grant.write().unwrap_or_else(PoisonError::into_inner) = grant;
    }

    /// The session's secret was replaced by another, and ends at this instant.
    pub fn expire_secret_at(&self, until: Timestamp) {
        *self.secret_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    /// True if the session rests on a secret that has ended.
    pub fn is_secret_over(&self, now: Timestamp) -> bool {
        let until = *self.secret_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| until <= now)
    }

    /// True unless the agent has said that it can't carry this out.
    pub fn supports(&self, command: CommandName) -> bool {
        !self.is_full || self.capabilities.contains(&command)
    }

    /// Ends the session, whatever it is doing: never waits, and is never lost. The first code
    /// counts.
    pub fn close(&self, code: CloseCode) {
        self.close.send_if_modified(|slot| {
            let is_first = slot.is_none();
            slot.get_or_insert(code);
            is_first
        });
    }

    /// Waits until the session is to end.
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

    /// Puts a message into the mailbox now, or as soon as there is room, without the caller
    /// waiting. For what holds a place in the window, which bounds how many wait, and for what
    /// people cause by hand.
    pub fn send_or_spawn(self: &Arc<Self>, message: SessionMessage) {
        if let Err(TrySendError::Full(message)) = self.mailbox.try_send(message) {
            let session = Arc::clone(self);
            // If the session ends first, the next one's inventory puts the command back.
            tokio::spawn(async move { session.send(message).await });
        }
    }

    /// Messages that wait in the mailbox.
    pub fn waiting_mail(&self) -> usize {
        self.mailbox.max_capacity() - self.mailbox.capacity()
    }

    /// Puts a message into the mailbox when there is room.
    ///
    /// # Errors
    /// [`Unreachable`] if the session has ended.
    pub async fn send(&self, message: SessionMessage) -> Result<(), Unreachable> {
        self.mailbox.send(message).await.map_err(|_| Unreachable)
    }

    /// Opens the session for durable commands; `held` are those the agent has already.
    pub fn make_ready(&self, held: impl IntoIterator<Item = CommandId>) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).extend(held);
        self.is_ready.store(true, Ordering::Release);
    }

    /// Takes a place in the window for a new command. False if there is none, or if something
    /// older may be queued, which goes first.
    pub fn try_acquire_new(&self, command_id: CommandId) -> bool {
        let is_held = !self.has_backlog.load(Ordering::Acquire) && self.hold(command_id);
        if !is_held {
            self.has_backlog.store(true, Ordering::Release);
        }
        is_held
    }

    /// Says whether something is still queued for this agent.
    pub fn set_backlog(&self, has_backlog: bool) {
        self.has_backlog.store(has_backlog, Ordering::Release);
    }

    /// Takes a place in the window. False if there is none; whoever frees one then wakes the
    /// dispatcher.
    pub fn hold(&self, command_id: CommandId) -> bool {
        if !self.is_ready.load(Ordering::Acquire) {
            return false;
        }
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.len() >= self.window {
            self.is_starved.store(true, Ordering::Release);
            return false;
        }
        held.insert(command_id)
    }

    /// Places that are free in the window; none before the session is ready.
    pub fn room(&self) -> usize {
        if !self.is_ready.load(Ordering::Acquire) {
            return 0;
        }
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let room = self.window.saturating_sub(held.len());
        if room == 0 {
            self.is_starved.store(true, Ordering::Release);
        }
        room
    }

    /// Gives a place back. True if somebody was refused one meanwhile.
    pub fn release(&self, command_id: CommandId) -> bool {
        let freed = self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&command_id);
        freed && self.is_starved.swap(false, Ordering::AcqRel)
    }
}
