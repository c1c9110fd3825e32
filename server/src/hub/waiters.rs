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
pub struct TransientAnswer {
    pub success: bool,
    pub data: Value,
    pub error: Option<String>,
    pub error_code: Option<String>,
}

/// The agent has too many transient commands open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many commands of this agent wait for an answer")]
pub struct TooManyWaiters;

/// Open transient commands of one session.
#[derive(Debug, Default)]
pub struct Waiters(Mutex<HashMap<CommandId, oneshot::Sender<TransientAnswer>>>);

impl Waiters {
    /// Starts to wait.
    ///
    /// # Errors
    /// [`TooManyWaiters`] at the bound.
    pub fn wait_for(
        &self,
        command_id: CommandId,
    ) -> Result<oneshot::Receiver<TransientAnswer>, TooManyWaiters> {
        let mut waiters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiters.len() >= MAX_WAITERS {
            return Err(TooManyWaiters);
        }
        let (answer, waiting) = oneshot::channel();
        waiters.insert(command_id, answer);
        Ok(waiting)
    }

    /// Gives up waiting.
    pub fn forget(&self, command_id: CommandId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&command_id);
    }

    /// Hands an answer to whoever waits; gives it back if nobody does.
    pub fn answer(
        &self,
        command_id: CommandId,
        answer: TransientAnswer,
    ) -> Result<(), TransientAnswer> {
        let waiter = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&command_id);
        match waiter {
            // Whoever stopped waiting this very moment is told that it took too long.
            Some(waiter) => waiter.send(answer).or(Ok(())),
            None => Err(answer),
        }
    }

    /// True if somebody waits for this command's answer.
    pub fn contains(&self, command_id: CommandId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&command_id)
    }
}
