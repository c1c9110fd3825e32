//! Limits how often a hook is called, and how often a source calls hooks without proof.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::domain::access::allowance::Allowance;
use crate::domain::ids::HookId;
use crate::domain::source::ClientSource;
use crate::services::error::ServiceError;

/// Genuine deliveries of one hook in a minute, and at once.
const DELIVERIES_PER_MINUTE: NonZeroU32 = NonZeroU32::new(60).unwrap();
/// Deliveries of one source in a minute, and at once, whether genuine or not.
const ATTEMPTS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(600).unwrap();
/// Deliveries without proof of one hook in a minute that its history records.
const RECORDED_PER_MINUTE: NonZeroU32 = NonZeroU32::new(10).unwrap();
/// After so many attempts, sources and hooks that were quiet are forgotten.
const FORGET_EVERY: usize = 1_024;

/// Counts deliveries. Cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::services) struct HookLimiter(Arc<HookLimiterInner>);

#[derive(Debug)]
struct HookLimiterInner {
    sources: DefaultKeyedRateLimiter<ClientSource>,
    hooks: DefaultKeyedRateLimiter<HookId>,
    recorded: DefaultKeyedRateLimiter<HookId>,
    attempts: AtomicUsize,
}

impl Default for HookLimiter {
    fn default() -> Self {
        Self(Arc::new(HookLimiterInner {
            sources: RateLimiter::keyed(Quota::per_minute(ATTEMPTS_PER_MINUTE)),
            hooks: RateLimiter::keyed(Quota::per_minute(DELIVERIES_PER_MINUTE)),
            recorded: RateLimiter::keyed(Quota::per_minute(RECORDED_PER_MINUTE)),
            attempts: AtomicUsize::new(0),
        }))
    }
}

impl HookLimiter {
    /// Counts a delivery of a source, before anything of it is read.
    ///
    /// # Errors
    /// [`ServiceError::RateLimited`].
    pub(super) fn attempt(&self, source: Option<ClientSource>) -> Result<(), ServiceError> {
        let shared = &*self.0;
        if shared.attempts.fetch_add(1, Ordering::Relaxed).is_multiple_of(FORGET_EVERY) {
            shared.sources.retain_recent();
            shared.hooks.retain_recent();
            shared.recorded.retain_recent();
        }
        source.map_or(Ok(()), |source| check(&shared.sources, &source, ATTEMPTS_PER_MINUTE))
    }

    /// Counts a genuine delivery of a hook: strangers do not use up its limit.
    ///
    /// # Errors
    /// [`ServiceError::RateLimited`].
    pub(super) fn deliver(&self, id: HookId) -> Result<(), ServiceError> {
        check(&self.0.hooks, &id, DELIVERIES_PER_MINUTE)
    }

    /// True if the history of the hook may record one more delivery without proof.
    pub(super) fn may_record(&self, id: HookId) -> bool {
        self.0.recorded.check_key(&id).is_ok()
    }
}

fn check<K: std::hash::Hash + Eq + Clone>(
    limiter: &DefaultKeyedRateLimiter<K>,
    key: &K,
    per_minute: NonZeroU32,
) -> Result<(), ServiceError> {
    limiter.check_key(key).map_err(|early| {
        let wait = early.wait_time_from(DefaultClock::default().now());
        let wait_s = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        ServiceError::RateLimited {
            code: "too_many_deliveries",
            detail: "too many deliveries were sent to this hook or from this address; wait a moment",
            allowance: Allowance { limit: per_minute.get(), remaining: 0, wait_s: wait_s.max(1) },
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_does_not_use_up_the_limit_of_a_hook() {
        let limiter = HookLimiter::default();
        let source = |text: &str| Some(ClientSource::of(text.parse().expect("an address")));
        for _ in 0..ATTEMPTS_PER_MINUTE.get() {
            limiter.attempt(source("192.0.2.1")).expect("within the limit");
        }
        assert!(limiter.attempt(source("192.0.2.1")).is_err());
        limiter.attempt(source("192.0.2.2")).expect("another source");
        let (one, other) = (HookId::new(), HookId::new());
        for _ in 0..DELIVERIES_PER_MINUTE.get() {
            limiter.deliver(one).expect("within the limit");
        }
        assert!(limiter.deliver(one).is_err());
        limiter.deliver(other).expect("another hook");
    }
}
