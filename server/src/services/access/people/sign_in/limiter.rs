//! Limits how often a password may be tried, or a mail requested, from one address and for one account.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};

use crate::domain::access::allowance::Allowance;
use crate::domain::access::credential::SecretHash;
use crate::domain::source::ClientSource;
use crate::services::error::ServiceError;

/// Passwords that may be tried per minute, and at once: from one address, and for one account.
const SIGN_INS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(10).unwrap();
/// After so many attempts, addresses and accounts that were quiet are forgotten.
const FORGET_EVERY: usize = 1_024;

type KeyedLimiter<K> =
    RateLimiter<K, DefaultKeyedStateStore<K>, DefaultClock, StateInformationMiddleware>;

/// Counts attempts. Cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::services) struct SignInLimiter(Arc<SignInLimiterInner>);

#[derive(Debug)]
struct SignInLimiterInner {
    sources: KeyedLimiter<ClientSource>,
    /// By the hash of the address, so that no address is kept.
    accounts: KeyedLimiter<SecretHash>,
    attempts: AtomicUsize,
    per_minute: NonZeroU32,
}

impl Default for SignInLimiter {
    fn default() -> Self {
        Self::per_minute(SIGN_INS_PER_MINUTE)
    }
}

impl SignInLimiter {
    /// Allows so many attempts a minute, and at once.
    pub(in crate::services) fn per_minute(per_minute: NonZeroU32) -> Self {
        let quota = Quota::per_minute(per_minute);
        Self(Arc::new(SignInLimiterInner {
            per_minute,
            sources: RateLimiter::keyed(quota).with_middleware(),
            accounts: RateLimiter::keyed(quota).with_middleware(),
            attempts: AtomicUsize::new(0),
        }))
    }
}

impl SignInLimiter {
    /// Counts an attempt for an account, whether it exists or not. Returns the lower allowance.
    ///
    /// # Errors
    /// [`ServiceError::RateLimited`].
    pub(in crate::services) fn attempt(
        &self,
        source: Option<ClientSource>,
        email: &str,
    ) -> Result<Allowance, ServiceError> {
        let shared = &*self.0;
        if shared.attempts.fetch_add(1, Ordering::Relaxed).is_multiple_of(FORGET_EVERY) {
            shared.sources.retain_recent();
            shared.accounts.retain_recent();
        }
        // First the address: one that is refused does not use up the limit of an account.
        let of_source =
            source.map(|source| check(&shared.sources, &source, shared.per_minute)).transpose()?;
        let account = SecretHash::of(&email.trim().to_ascii_lowercase());
        let of_account = check(&shared.accounts, &account, shared.per_minute)?;
        let lower = of_source.filter(|allowance| allowance.remaining < of_account.remaining);
        Ok(lower.unwrap_or(of_account))
    }
}

fn check<K: std::hash::Hash + Eq + Clone>(
    limiter: &KeyedLimiter<K>,
    key: &K,
    per_minute: NonZeroU32,
) -> Result<Allowance, ServiceError> {
    let limit = per_minute.get();
    match limiter.check_key(key) {
        Ok(state) => {
            Ok(Allowance { limit, remaining: state.remaining_burst_capacity(), wait_s: 0 })
        }
        Err(early) => {
            let wait = early.wait_time_from(DefaultClock::default().now());
            let wait_s = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            Err(ServiceError::RateLimited {
                code: "too_many_attempts",
                detail: "too many attempts were made for this account or from this address; wait a moment",
                allowance: Allowance { limit, remaining: 0, wait_s: wait_s.max(1) },
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_and_an_account_are_limited_apart() {
        let limiter = SignInLimiter::default();
        let source = |text: &str| Some(ClientSource::of(text.parse().expect("an address")));
        let is_refused = |from: &str, email: &str| {
            let refused = |error| matches!(error, ServiceError::RateLimited { .. });
            limiter.attempt(source(from), email).map_or_else(refused, |_| false)
        };
        for attempt in (0..SIGN_INS_PER_MINUTE.get()).rev() {
            let allowance = limiter.attempt(source("192.0.2.1"), "a@b").expect("within the limit");
            assert_eq!((allowance.limit, allowance.remaining), (10, attempt));
        }
        assert!(is_refused("192.0.2.1", "c@d"), "the address");
        assert!(is_refused("192.0.2.2", " A@B"), "the account");
        assert!(!is_refused("192.0.2.3", "e@f"));
    }
}
