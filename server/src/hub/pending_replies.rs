//! Requests that wait for the answer to a transient command.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use tokio::sync::oneshot;

use crate::domain::ids::CommandId;

/// Transient commands that one agent may have open.
const MAX_WAITERS: usize = 1_024;

/// What an agent answered to a transient command.
#[derive(Debug, Clone, PartialEq)]
pub struct TransientReply {
    pub success: bool,
    pub data: Value,
    pub error: Option<String>,
    pub error_code: Option<String>,
}

/// Why nobody can wait for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CantWait {
    TooMany,
    /// The session is over.
    Over,
}

/// Open transient commands of one session; `None` once it is over.
#[derive(Debug)]
pub struct PendingReplies(Mutex<Option<HashMap<CommandId, oneshot::Sender<TransientReply>>>>);

impl Default for PendingReplies {
    fn default() -> Self {
        Self(Mutex::new(Some(HashMap::new())))
    }
}

impl PendingReplies {
    /// Starts to wait.
    ///
    /// # Errors
    /// [`CantWait`] at the bound, or when the session is over.
    pub fn wait_for(
        &self,
        command_id: CommandId,
    ) -> Result<oneshot::Receiver<TransientReply>, CantWait> {
        let mut waiters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waiters = waiters.as_mut().ok_or(CantWait::Over)?;
        if waiters.len() >= MAX_WAITERS {
            return Err(CantWait::TooMany);
        }
        let (answer, waiting) = oneshot::channel();
        waiters.insert(command_id, answer);
        Ok(waiting)
    }

    /// Gives up waiting.
    pub fn forget(&self, command_id: CommandId) {
        self.remove(command_id);
    }

    /// Hands an answer to whoever waits; gives it back if nobody does.
    pub fn answer(
        &self,
        command_id: CommandId,
        answer: TransientReply,
    ) -> Result<(), TransientReply> {
        match self.remove(command_id) {
            // Whoever stopped waiting this very moment is told that it took too long.
            Some(waiter) => waiter.send(answer).or(Ok(())),
            None => Err(answer),
        }
    }

    /// True if somebody waits for this command's answer.
    pub fn contains(&self, command_id: CommandId) -> bool {
        let waiters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiters.as_ref().is_some_and(|waiters| waiters.contains_key(&command_id))
    }

    /// The session is over: whoever waits learns it now.
    pub fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn remove(&self, command_id: CommandId) -> Option<oneshot::Sender<TransientReply>> {
        let mut waiters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiters.as_mut()?.remove(&command_id)
    }
}
