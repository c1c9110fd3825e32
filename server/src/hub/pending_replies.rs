//! Requests that wait for the reply to a transient command.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use tokio::sync::oneshot;

use crate::domain::ids::CommandId;

/// Most open transient commands of one agent.
const MAX_PENDING: usize = 1_024;

/// The reply of an agent to a transient command.
#[derive(Debug, Clone, PartialEq)]
pub struct TransientReply {
    pub success: bool,
    pub data: Value,
    pub error: Option<String>,
    pub error_code: Option<String>,
}

/// Why a request cannot wait for a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyError {
    TooMany,
    SessionOver,
}

/// Open transient commands of one session; `None` once it has ended.
#[derive(Debug)]
pub struct PendingReplies(Mutex<Option<HashMap<CommandId, oneshot::Sender<TransientReply>>>>);

impl Default for PendingReplies {
    fn default() -> Self {
        Self(Mutex::new(Some(HashMap::new())))
    }
}

impl PendingReplies {
    /// Adds an open command. The receiver gets its reply.
    ///
    /// # Errors
    /// [`ReplyError`] at the limit, or if the session has ended.
    pub fn register(
        &self,
        command_id: CommandId,
    ) -> Result<oneshot::Receiver<TransientReply>, ReplyError> {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pending = pending.as_mut().ok_or(ReplyError::SessionOver)?;
        if pending.len() >= MAX_PENDING {
            return Err(ReplyError::TooMany);
        }
        let (sender, receiver) = oneshot::channel();
        pending.insert(command_id, sender);
        Ok(receiver)
    }

    /// Removes an open command whose request stopped waiting.
    pub fn cancel(&self, command_id: CommandId) {
        self.remove(command_id);
    }

    /// Passes a reply to the waiting request.
    ///
    /// # Errors
    /// The reply itself, if no such command is open.
    pub fn deliver(
        &self,
        command_id: CommandId,
        reply: TransientReply,
    ) -> Result<(), TransientReply> {
        match self.remove(command_id) {
            // The request may have timed out at this moment.
            Some(sender) => sender.send(reply).or(Ok(())),
            None => Err(reply),
        }
    }

    /// True if a request waits for the reply to this command.
    pub fn contains(&self, command_id: CommandId) -> bool {
        let pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pending.as_ref().is_some_and(|pending| pending.contains_key(&command_id))
    }

    /// Ends the session: every waiting request fails now.
    pub fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn remove(&self, command_id: CommandId) -> Option<oneshot::Sender<TransientReply>> {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pending.as_mut()?.remove(&command_id)
    }
}
