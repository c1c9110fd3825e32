//! Limits how often each source may present unknown credentials.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use moka::sync::Cache;

use crate::domain::source::ClientSource;

/// Unknown credentials of one source per second, and at once.
const FAILED_LOOKUPS_PER_SECOND: NonZeroU32 = NonZeroU32::new(20).unwrap();
const FAILED_LOOKUP_BURST: NonZeroU32 = NonZeroU32::new(1_000).unwrap();
/// Most sources that are refused at the same time.
const MAX_REFUSED: u64 = 65_536;
/// After so many failures, sources that were quiet are forgotten.
const FORGET_EVERY: usize = 1_024;

/// Counts failed look-ups. Valid credentials cost nothing, so a fleet behind one address is not
/// limited. Cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::services) struct LookupLimiter(Arc<LookupLimiterInner>);

#[derive(Debug)]
struct LookupLimiterInner {
    failures: DefaultKeyedRateLimiter<ClientSource>,
    /// Sources at the limit, and until when.
    refused_until: Cache<ClientSource, Instant>,
    failed: AtomicUsize,
}

impl Default for LookupLimiter {
    fn default() -> Self {
        let quota = Quota::per_second(FAILED_LOOKUPS_PER_SECOND).allow_burst(FAILED_LOOKUP_BURST);
        // No wait is longer than this.
        let time_to_live = Duration::from_secs(60);
        Self(Arc::new(LookupLimiterInner {
            failures: RateLimiter::keyed(quota),
            refused_until: Cache::builder()
                .max_capacity(MAX_REFUSED)
                .time_to_live(time_to_live)
                .build(),
            failed: AtomicUsize::new(0),
        }))
    }
}

impl LookupLimiter {
    /// True if the database may be asked for a credential of this source.
    pub(in crate::services) fn may_look_up(&self, source: ClientSource) -> bool {
        self.0.refused_until.get(&source).is_none_or(|until| until <= Instant::now())
    }

    /// Records that this source presented an unknown credential.
    pub(in crate::services) fn record_failure(&self, source: ClientSource) {
        let shared = &*self.0;
        if shared.failed.fetch_add(1, Ordering::Relaxed).is_multiple_of(FORGET_EVERY) {
            shared.failures.retain_recent();
            shared.failures.shrink_to_fit();
        }
        if let Err(early) = shared.failures.check_key(&source) {
            let wait = early.wait_time_from(DefaultClock::default().now());
            shared.refused_until.insert(source, Instant::now() + wait);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_guesses_is_refused_and_another_one_is_not() {
        let limiter = LookupLimiter::default();
        let source = |text: &str| ClientSource::of(text.parse().expect("an address"));
        let (one, other) = (source("192.0.2.1"), source("192.0.2.2"));
        for _ in 0..FAILED_LOOKUP_BURST.get() {
            assert!(limiter.may_look_up(one), "within the burst");
            limiter.record_failure(one);
        }
        // A slow test may have earned a few more.
        let refused = (0..1_000).any(|_| {
            limiter.record_failure(one);
            !limiter.may_look_up(one)
        });
        assert!(refused);
        assert!(limiter.may_look_up(other));
    }
}
