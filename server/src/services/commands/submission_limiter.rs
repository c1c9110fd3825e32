//! How much of what callers ask for is under way at once: one caller that sends ten thousand requests
//! is told to come back later, and the memory that jobs take has a bound.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::ids::ApiKeyId;
use crate::services::error::{Result, ServiceError};

/// Submissions of one caller that may be under way; more are refused.
const REQUESTS: usize = 1_024;
const TOO_MANY: ServiceError = ServiceError::TooMany {
    code: "too_many_requests",
    detail: "this API key has 1,024 submissions under way; send fewer at once, and this one again later",
};
/// Submissions of jobs that read at once, some of them all agents of a tenant; more wait. Each reads
/// several times: were they to wait for the database itself, none of a thousand would be through
/// before its patience ends.
const READERS: usize = 16;
/// Executions of jobs that are being stored at once, two of the largest jobs; more wait.
const EXECUTIONS: usize = 20_000;

/// Whose turn it is. Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::services) struct SubmissionLimiter {
    callers: Arc<Mutex<HashMap<ApiKeyId, usize>>>,
    readers: Arc<Semaphore>,
    executions: Arc<Semaphore>,
}

impl Default for SubmissionLimiter {
    fn default() -> Self {
        Self {
            callers: Arc::default(),
            readers: Arc::new(Semaphore::new(READERS)),
            executions: Arc::new(Semaphore::new(EXECUTIONS)),
        }
    }
}

/// One submission under way, until it is dropped.
#[derive(Debug)]
pub(in crate::services) struct Turn {
    callers: Arc<Mutex<HashMap<ApiKeyId, usize>>>,
    caller: ApiKeyId,
}

impl SubmissionLimiter {
    /// Lets a submission begin.
    ///
    /// # Errors
    /// [`ServiceError::TooMany`] if its caller has as many under way as it may.
    pub fn take(&self, caller: ApiKeyId) -> Result<Turn> {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        let under_way = callers.entry(caller).or_default();
        if *under_way >= REQUESTS {
            return Err(TOO_MANY);
        }
        *under_way += 1;
        Ok(Turn { callers: Arc::clone(&self.callers), caller })
    }

    /// Reads when it is its turn.
    pub async fn reading<T>(&self, read: impl Future<Output = Result<T>>) -> Result<T> {
        let _room = self.readers.acquire().await.map_err(|_| TOO_MANY)?;
        read.await
    }

    /// Waits until there is room for a job of so many executions.
    pub async fn acquire_executions(&self, executions: usize) -> Result<OwnedSemaphorePermit> {
        let room = u32::try_from(executions.clamp(1, EXECUTIONS)).unwrap_or(1);
        let waiting = Arc::clone(&self.executions).acquire_many_owned(room);
        waiting.await.map_err(|_| TOO_MANY)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = callers.entry(self.caller) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_has_so_many_turns_and_gets_them_back() {
        let (turns, one, other) = (SubmissionLimiter::default(), ApiKeyId::new(), ApiKeyId::new());
        let mut taken: Vec<_> = (0..REQUESTS).map(|_| turns.take(one).expect("a turn")).collect();
        assert!(matches!(turns.take(one), Err(ServiceError::TooMany { .. })));
        turns.take(other).expect("another caller's turn");
        taken.pop();
        taken.push(turns.take(one).expect("a turn that was given back"));
        drop(taken);
        assert!(turns.callers.lock().expect("whole").is_empty(), "nothing is remembered");
    }
}
