//! Limits submissions in progress: one API key with thousands of requests gets an error to retry
//! later, and the memory that jobs use stays bounded.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::ids::PrincipalId;
use crate::services::error::{Result, ServiceError};

/// Most submissions in progress for one API key; more are refused.
const MAX_REQUESTS_PER_KEY: usize = 1_024;
const TOO_MANY: ServiceError = ServiceError::TooMany {
    code: "too_many_requests",
    detail: "this API key has 1,024 submissions in progress; send fewer at once and retry later",
};
/// Most job submissions that read the database at once; more wait. Each reads several times, some
/// of them all agents of a tenant. If a thousand of them waited for database connections instead,
/// all of them would time out.
const MAX_READERS: usize = 16;
/// Most executions of jobs that are stored at once, which is two of the largest jobs; more wait.
const MAX_EXECUTIONS: usize = 20_000;

/// Admits submissions. Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::services) struct SubmissionLimiter {
    counts: Arc<Mutex<HashMap<PrincipalId, usize>>>,
    readers: Arc<Semaphore>,
    executions: Arc<Semaphore>,
}

impl Default for SubmissionLimiter {
    fn default() -> Self {
        Self {
            counts: Arc::default(),
            readers: Arc::new(Semaphore::new(MAX_READERS)),
            executions: Arc::new(Semaphore::new(MAX_EXECUTIONS)),
        }
    }
}

/// One submission in progress, until it is dropped.
#[derive(Debug)]
pub(in crate::services) struct SubmissionPermit {
    counts: Arc<Mutex<HashMap<PrincipalId, usize>>>,
    key_id: PrincipalId,
}

impl SubmissionLimiter {
    /// Admits a submission.
    ///
    /// # Errors
    /// [`ServiceError::TooMany`] if the API key is at its limit.
    pub fn acquire(&self, key_id: PrincipalId) -> Result<SubmissionPermit> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key_id).or_default();
        if *count >= MAX_REQUESTS_PER_KEY {
            return Err(TOO_MANY);
        }
        *count += 1;
        Ok(SubmissionPermit { counts: Arc::clone(&self.counts), key_id })
    }

    /// Waits for a read permit, then reads.
    pub async fn with_read_permit<T>(&self, read: impl Future<Output = Result<T>>) -> Result<T> {
        let _permit = self.readers.acquire().await.map_err(|_| TOO_MANY)?;
        read.await
    }

    /// Waits until a job of this many executions may be stored.
    pub async fn acquire_executions(&self, executions: usize) -> Result<OwnedSemaphorePermit> {
        let permits = u32::try_from(executions.clamp(1, MAX_EXECUTIONS)).unwrap_or(1);
        let acquired = Arc::clone(&self.executions).acquire_many_owned(permits);
        acquired.await.map_err(|_| TOO_MANY)
    }
}

impl Drop for SubmissionPermit {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = counts.entry(self.key_id) {
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
    fn api_key_at_its_limit_is_refused_until_a_permit_is_dropped() {
        let (limiter, key, other) =
            (SubmissionLimiter::default(), PrincipalId::new(), PrincipalId::new());
        let mut permits: Vec<_> =
            (0..MAX_REQUESTS_PER_KEY).map(|_| limiter.acquire(key).expect("a permit")).collect();
        assert!(matches!(limiter.acquire(key), Err(ServiceError::TooMany { .. })));
        limiter.acquire(other).expect("a permit of another key");
        permits.pop();
        permits.push(limiter.acquire(key).expect("the permit that was dropped"));
        drop(permits);
        assert!(limiter.counts.lock().expect("not poisoned").is_empty(), "no key is remembered");
    }
}
