//! Limits the connections of each source, before any work is done for them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::domain::source::{ClientSource, TrustedProxies};

/// New connections of one source per second, and at once. The agents of a large network that share
/// one address, twice 10,000, may all reconnect at the same time.
const CONNECTIONS_PER_SECOND: NonZeroU32 = NonZeroU32::new(500).unwrap();
const CONNECTION_BURST: NonZeroU32 = NonZeroU32::new(20_000).unwrap();
/// After so many connections, sources that were quiet are forgotten.
const FORGET_EVERY: usize = 1_024;

/// Counts the connections of each source. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct SourceLimiter(Arc<SourceLimiterInner>);

#[derive(Debug)]
struct SourceLimiterInner {
    open: Mutex<HashMap<ClientSource, usize>>,
    max_open: usize,
    rate: DefaultKeyedRateLimiter<ClientSource>,
    admitted: AtomicUsize,
    /// They carry the connections of many clients, and limit them themselves.
    exempt: TrustedProxies,
}

/// One connection, counted until it is dropped.
#[derive(Debug)]
pub(super) struct SourcePermit {
    limiter: SourceLimiter,
    source: Option<ClientSource>,
}

impl SourceLimiter {
    pub(super) fn new(max_open: usize, exempt: TrustedProxies) -> Self {
        let quota = Quota::per_second(CONNECTIONS_PER_SECOND).allow_burst(CONNECTION_BURST);
        Self(Arc::new(SourceLimiterInner {
            open: Mutex::default(),
            max_open,
            rate: RateLimiter::keyed(quota),
            admitted: AtomicUsize::new(0),
            exempt,
        }))
    }

    /// Admits a connection from this address; `None` at the limits.
    pub(super) fn admit(&self, address: IpAddr) -> Option<SourcePermit> {
        let shared = &*self.0;
        if shared.exempt.contains(address) {
            return Some(SourcePermit { limiter: self.clone(), source: None });
        }
        let source = ClientSource::of(address);
        if shared.admitted.fetch_add(1, Ordering::Relaxed).is_multiple_of(FORGET_EVERY) {
            shared.rate.retain_recent();
            shared.rate.shrink_to_fit();
        }
        let mut open = shared.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.get(&source).is_some_and(|count| *count >= shared.max_open)
            || shared.rate.check_key(&source).is_err()
        {
            return None;
        }
        *open.entry(source).or_default() += 1;
        drop(open);
        Some(SourcePermit { limiter: self.clone(), source: Some(source) })
    }
}

impl Drop for SourcePermit {
    fn drop(&mut self) {
        let Some(source) = self.source else { return };
        let mut open = self.limiter.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                open.remove(&source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::Limits;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_source_at_its_limit_is_refused_and_another_one_is_not() {
        let limiter = SourceLimiter::new(2, TrustedProxies::default());
        let one = limiter.admit(address("2001:db8::1")).expect("the first");
        let _two = limiter.admit(address("2001:db8::2")).expect("the second");
        assert!(limiter.admit(address("2001:db8::3")).is_none());
        assert!(limiter.admit(address("2001:db8:0:1::1")).is_some());
        drop(one);
        assert!(limiter.admit(address("2001:db8::3")).is_some());
    }

    #[test]
    fn trusted_proxies_are_not_limited() {
        let exempt = TrustedProxies::parse(&["10.0.0.1"]).expect("an address");
        let limiter = SourceLimiter::new(1, exempt);
        let permits: Vec<_> = (0..9).map(|_| limiter.admit(address("10.0.0.1"))).collect();
        assert!(permits.iter().all(Option::is_some));
        let _one = limiter.admit(address("10.0.0.2")).expect("the first");
        assert!(limiter.admit(address("10.0.0.2")).is_none());
    }

    #[test]
    fn ten_thousand_agents_of_one_address_reconnect_at_once_and_a_flood_is_refused() {
        // Of a system that permits 20,000 open files.
        let connections = Limits::connections(None, 20_000);
        let limiter =
            SourceLimiter::new(Limits::per_source(None, connections), TrustedProxies::default());
        let connect = || limiter.admit(address("192.0.2.1"));
        for _ in 0..2 {
            let fleet: Vec<_> = (0..10_000).map(|_| connect()).collect();
            assert!(fleet.iter().all(Option::is_some), "an agent was refused");
        }
        let flood = (0..20_000).filter(|_| connect().is_some()).count();
        assert!(flood < 10_000, "{flood} of a flood were admitted");
    }
}
