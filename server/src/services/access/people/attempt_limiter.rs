//! Limits how often something may be tried, for each key apart: an address, a person, a secret.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use governor::clock::{Clock as _, DefaultClock};
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};

use crate::domain::access::allowance::Allowance;
use crate::services::error::ServiceError;

/// After so many attempts, keys that were quiet are forgotten.
const FORGET_EVERY: usize = 1_024;

/// What a refusal says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refusal {
    pub code: &'static str,
    pub detail: &'static str,
}

/// Counts attempts. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct AttemptLimiter<K: Hash + Eq + Clone>(Arc<AttemptLimiterInner<K>>);

#[derive(Debug)]
struct AttemptLimiterInner<K: Hash + Eq + Clone> {
    keys: RateLimiter<K, DefaultKeyedStateStore<K>, DefaultClock>,
    limit: u32,
    attempts: AtomicUsize,
    refusal: Refusal,
}

impl<K: Hash + Eq + Clone> AttemptLimiter<K> {
    pub(super) fn new(quota: Quota, refusal: Refusal) -> Self {
        let (keys, limit) = (RateLimiter::keyed(quota), quota.burst_size().get());
        Self(Arc::new(AttemptLimiterInner { keys, limit, attempts: AtomicUsize::new(0), refusal }))
    }

    /// Counts an attempt.
    ///
    /// # Errors
    /// [`ServiceError::RateLimited`].
    pub(super) fn attempt(&self, key: &K) -> Result<(), ServiceError> {
        let shared = &*self.0;
        if shared.attempts.fetch_add(1, Ordering::Relaxed).is_multiple_of(FORGET_EVERY) {
            shared.keys.retain_recent();
        }
        shared.keys.check_key(key).map_err(|early| {
            let wait = early.wait_time_from(DefaultClock::default().now());
            let wait_s = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            let Refusal { code, detail } = shared.refusal;
            let allowance = Allowance { limit: shared.limit, remaining: 0, wait_s: wait_s.max(1) };
            ServiceError::RateLimited { code, detail, allowance }
        })
    }
}
