//! Limits how often a password may be tried by who has proved the account before: from an address that has
//! signed in to it, and in a session.
//!
//! They have limits of their own, so that a person who guesses from other addresses can't keep a person out
//! of an account, or from confirming what they do.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::{Quota, RateLimiter};
use moka::sync::Cache;

use crate::domain::access::allowance::Allowance;
use crate::domain::access::credential::SecretHash;
use crate::domain::ids::UserId;
use crate::domain::source::ClientSource;
use crate::services::error::{Result, ServiceError};

/// Passwords that may be tried per minute, and at once: from one known address for one account, and in all
/// sessions of one person.
const OWN_ATTEMPTS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(10).unwrap();
/// Addresses with their accounts that are remembered, and people.
const MAX_OWN_LIMITS: u64 = 20_000;
/// How long an address is remembered after its last sign-in: 30 days.
const KNOWN_FOR: Duration = Duration::from_secs(30 * 24 * 3_600);
/// How long the limit of a person's sessions is remembered: until all of it is free again.
const PERSON_FOR: Duration = Duration::from_secs(60);

type DirectLimiter = RateLimiter<
    governor::state::NotKeyed,
    governor::state::InMemoryState,
    DefaultClock,
    StateInformationMiddleware,
>;

/// The limits. Cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::services) struct OwnAttempts {
    /// By the address, and by the hash of the account's address.
    known: Cache<(ClientSource, SecretHash), Arc<DirectLimiter>>,
    /// By the person, because `switch` replaces one session by another.
    people: Cache<UserId, Arc<DirectLimiter>>,
}

impl Default for OwnAttempts {
    fn default() -> Self {
        Self {
            known: Cache::builder().max_capacity(MAX_OWN_LIMITS).time_to_idle(KNOWN_FOR).build(),
            people: Cache::builder().max_capacity(MAX_OWN_LIMITS).time_to_idle(PERSON_FOR).build(),
        }
    }
}

impl OwnAttempts {
    /// Counts an attempt from an address that has signed in to the account before; `None` from any other.
    pub(super) fn check_known(
        &self,
        source: Option<ClientSource>,
        email: &str,
    ) -> Option<Result<Allowance>> {
        let limiter = self.known.get(&(source?, account(email)))?;
        Some(check(&limiter))
    }

    /// Remembers that an address has signed in to an account.
    pub(super) fn remember(&self, source: Option<ClientSource>, email: &str) {
        let Some(source) = source else { return };
        self.known.get_with((source, account(email)), limiter);
    }

    /// Counts an attempt in a session of this person, who is signed in.
    ///
    /// # Errors
    /// [`ServiceError::RateLimited`].
    pub(super) fn in_session_of(&self, id: UserId) -> Result<Allowance> {
        check(&self.people.get_with(id, limiter))
    }
}

fn account(email: &str) -> SecretHash {
    SecretHash::of(&email.trim().to_ascii_lowercase())
}

fn limiter() -> Arc<DirectLimiter> {
    Arc::new(RateLimiter::direct(Quota::per_minute(OWN_ATTEMPTS_PER_MINUTE)).with_middleware())
}

fn check(limiter: &DirectLimiter) -> Result<Allowance> {
    let limit = OWN_ATTEMPTS_PER_MINUTE.get();
    match limiter.check() {
        Ok(state) => {
            Ok(Allowance { limit, remaining: state.remaining_burst_capacity(), wait_s: 0 })
        }
        Err(early) => {
            let wait = early.wait_time_from(DefaultClock::default().now());
            let wait_s = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            Err(ServiceError::RateLimited {
                code: "too_many_attempts",
                detail: "too many passwords were tried; wait a moment",
                allowance: Allowance { limit, remaining: 0, wait_s: wait_s.max(1) },
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_addresses_and_people_have_limits_of_their_own() {
        let own = OwnAttempts::default();
        let source = |text: &str| Some(ClientSource::of(text.parse().expect("an address")));
        let (home, other) = (source("192.0.2.1"), source("192.0.2.2"));
        assert!(own.check_known(home, "ada@example.com").is_none());
        own.remember(home, "ada@example.com");
        assert!(own.check_known(other, "ada@example.com").is_none(), "another address");
        assert!(own.check_known(home, "bob@example.com").is_none(), "another account");
        assert!(own.check_known(None, "ada@example.com").is_none());
        let (one, two) = (UserId::new(), UserId::new());
        for left in (0..OWN_ATTEMPTS_PER_MINUTE.get()).rev() {
            let known = own.check_known(home, " ADA@example.com").expect("known");
            assert_eq!(known.expect("within the limit").remaining, left);
            assert_eq!(own.in_session_of(one).expect("within the limit").remaining, left);
        }
        let is_refused = |result| matches!(result, Err(ServiceError::RateLimited { .. }));
        assert!(own.check_known(home, "ada@example.com").is_some_and(is_refused));
        assert!(is_refused(own.in_session_of(one)) && !is_refused(own.in_session_of(two)));
    }
}
