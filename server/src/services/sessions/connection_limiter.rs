//! Limits the connections of each agent key. Connections that have not registered are counted apart
//! from the others: any holder of the key can open them, and they must not keep its agents out.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::domain::ids::AgentKeyId;
use crate::domain::source::ClientSource;

/// Connections of one key pair: the one that is used, and those that it has just replaced.
const MAX_OF_KEY_PAIR: usize = 8;
/// Time between two reports that the places of a key are full.
const REPORT_INTERVAL: Duration = Duration::from_secs(600);

/// The public key that a full agent has proven.
type PublicKey = [u8; 32];

/// Shared by every session of the server.
#[derive(Debug, Clone, Default)]
pub(super) struct ConnectionLimiter(Arc<ConnectionLimiterInner>);

#[derive(Debug, Default)]
struct ConnectionLimiterInner {
    connections: Mutex<OpenConnections>,
    ended: Notify,
}

#[derive(Debug, Default)]
struct OpenConnections {
    by_key: HashMap<AgentKeyId, KeyConnections>,
    /// When the places of a key were last reported to be full.
    reported_at: HashMap<AgentKeyId, Instant>,
    next_number: u64,
    is_closed: bool,
}

#[derive(Debug, Default)]
struct KeyConnections {
    /// By source, the oldest first. Sending ends the connection.
    unregistered: HashMap<Option<ClientSource>, BTreeMap<u64, oneshot::Sender<()>>>,
    unregistered_count: usize,
    registered: usize,
    by_key_pair: HashMap<PublicKey, usize>,
}

/// A connection that has not registered, counted until it is dropped or displaced.
#[derive(Debug)]
pub(super) struct UnregisteredConnection {
    limiter: ConnectionLimiter,
    key_id: AgentKeyId,
    source: Option<ClientSource>,
    number: u64,
    end: oneshot::Receiver<()>,
    /// It has displaced another one, which was not reported for a while.
    pub(super) must_report: bool,
}

/// A connection that registers or has registered, counted until it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    limiter: ConnectionLimiter,
    key_id: AgentKeyId,
    key_pair: Option<PublicKey>,
}

impl ConnectionLimiter {
    /// Admits a connection of a key that may have `max` unregistered ones. At the limit, the oldest of
    /// the source that has most of them ends. `None` after [`Self::close`].
    pub(super) fn arrive(
        &self,
        key_id: AgentKeyId,
        source: Option<ClientSource>,
        max: usize,
    ) -> Option<UnregisteredConnection> {
        let mut connections = self.lock();
        if connections.is_closed {
            return None;
        }
        let number = connections.next_number;
        connections.next_number += 1;
        let of_key = connections.by_key.entry(key_id).or_default();
        let is_full = of_key.unregistered_count >= max;
        if is_full {
            of_key.displace_one();
        }
        let (sender, end) = oneshot::channel();
        of_key.unregistered.entry(source).or_default().insert(number, sender);
        of_key.unregistered_count += 1;
        let must_report = is_full && connections.must_report(key_id);
        drop(connections);
        Some(UnregisteredConnection {
            limiter: self.clone(),
            key_id,
            source,
            number,
            end,
            must_report,
        })
    }

    /// Admits a connection that registers, of a key that may have `max` of them. `key_pair`: what a
    /// full agent has proven. `None` at the limit.
    pub(super) fn admit(
        &self,
        key_id: AgentKeyId,
        key_pair: Option<PublicKey>,
        max: usize,
    ) -> Option<ConnectionPermit> {
        let mut connections = self.lock();
        let of_key = connections.by_key.entry(key_id).or_default();
        let of_pair = key_pair.and_then(|pair| of_key.by_key_pair.get(&pair)).copied().unwrap_or(0);
        let is_admitted = of_key.registered < max && of_pair < MAX_OF_KEY_PAIR;
        if is_admitted {
            of_key.registered += 1;
            if let Some(pair) = key_pair {
                of_key.by_key_pair.insert(pair, of_pair + 1);
            }
        }
        connections.forget_if_empty(key_id);
        drop(connections);
        is_admitted.then(|| ConnectionPermit { limiter: self.clone(), key_id, key_pair })
    }

    /// Admits no more connections.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
    }

    /// Waits until all connections have ended.
    pub(super) async fn wait_empty(&self) {
        loop {
            let ended = self.0.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.lock().by_key.is_empty() {
                return;
            }
            ended.await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, OpenConnections> {
        self.0.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenConnections {
    fn must_report(&mut self, key_id: AgentKeyId) -> bool {
        self.reported_at.retain(|_, at| at.elapsed() < REPORT_INTERVAL);
        if self.reported_at.contains_key(&key_id) {
            return false;
        }
        self.reported_at.insert(key_id, Instant::now());
        true
    }

    fn forget_if_empty(&mut self, key_id: AgentKeyId) {
        let is_empty =
            |of_key: &KeyConnections| of_key.registered == 0 && of_key.unregistered.is_empty();
        if self.by_key.get(&key_id).is_some_and(is_empty) {
            self.by_key.remove(&key_id);
        }
    }
}

impl KeyConnections {
    /// Ends the oldest connection of the source that has most of them. One source can therefore not
    /// displace the connections of others.
    fn displace_one(&mut self) {
        let first = |of_source: &BTreeMap<u64, _>| of_source.keys().next().copied();
        let largest = self
            .unregistered
            .iter()
            .max_by_key(|(_, of_source)| (of_source.len(), Reverse(first(of_source))));
        let Some(source) = largest.map(|(source, _)| *source) else { return };
        let oldest = self.unregistered.get(&source).and_then(first);
        if let Some(end) = oldest.and_then(|number| self.remove(source, number)) {
            // Fails if it is ending anyway.
            let _ = end.send(());
        }
    }

    /// Removes an unregistered connection, if it has its place yet.
    fn remove(&mut self, source: Option<ClientSource>, number: u64) -> Option<oneshot::Sender<()>> {
        let of_source = self.unregistered.get_mut(&source)?;
        let end = of_source.remove(&number)?;
        if of_source.is_empty() {
            self.unregistered.remove(&source);
        }
        self.unregistered_count -= 1;
        Some(end)
    }
}

impl UnregisteredConnection {
    /// Waits until a newer connection takes this one's place.
    pub(super) async fn displaced(&mut self) {
        // The sender is dropped only after a message, or with this connection.
        let _ = (&mut self.end).await;
    }
}

impl Drop for UnregisteredConnection {
    fn drop(&mut self) {
        let mut connections = self.limiter.lock();
        if let Some(of_key) = connections.by_key.get_mut(&self.key_id) {
            of_key.remove(self.source, self.number);
        }
        connections.forget_if_empty(self.key_id);
        drop(connections);
        self.limiter.0.ended.notify_waiters();
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut connections = self.limiter.lock();
        if let Some(of_key) = connections.by_key.get_mut(&self.key_id) {
            of_key.registered = of_key.registered.saturating_sub(1);
            if let Some(pair) = self.key_pair
                && let Some(of_pair) = of_key.by_key_pair.get_mut(&pair)
            {
                *of_pair -= 1;
                if *of_pair == 0 {
                    of_key.by_key_pair.remove(&pair);
                }
            }
        }
        connections.forget_if_empty(self.key_id);
        drop(connections);
        self.limiter.0.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn source(text: &str) -> Option<ClientSource> {
        Some(ClientSource::of(text.parse().expect("an address")))
    }

    fn is_displaced(connection: &mut UnregisteredConnection) -> bool {
        connection.displaced().now_or_never().is_some()
    }

    #[test]
    fn source_with_many_unregistered_connections_displaces_only_its_own() {
        let (limiter, key) = (ConnectionLimiter::default(), AgentKeyId::new());
        let mut host = limiter.arrive(key, source("192.0.2.1"), 3).expect("open");
        let mut held: Vec<_> =
            (0..50).map(|_| limiter.arrive(key, source("192.0.2.2"), 3).expect("open")).collect();
        assert!(!is_displaced(&mut host));
        let displaced = held.iter_mut().map(is_displaced).collect::<Vec<_>>();
        let newest_two = displaced.len() - 2;
        assert!(displaced[..newest_two].iter().all(|is_displaced| *is_displaced));
        assert!(displaced[newest_two..].iter().all(|is_displaced| !is_displaced));
        let reports = held.iter().filter(|connection| connection.must_report).count();
        assert_eq!(reports, 1, "one report for all of them");
        drop((host, held));
        assert!(limiter.lock().by_key.is_empty());
    }

    #[test]
    fn unregistered_connections_take_no_slots_of_registered_ones() {
        let (limiter, key) = (ConnectionLimiter::default(), AgentKeyId::new());
        let held: Vec<_> = (0..9).map(|_| limiter.arrive(key, None, 2)).collect();
        let first = limiter.admit(key, None, 2).expect("below the limit");
        let _second = limiter.admit(key, Some([1; 32]), 2).expect("below the limit");
        assert!(limiter.admit(key, Some([2; 32]), 2).is_none());
        assert!(limiter.admit(AgentKeyId::new(), None, 2).is_some(), "another key has its own");
        drop(first);
        assert!(limiter.admit(key, Some([2; 32]), 2).is_some());
        limiter.close();
        assert!(limiter.arrive(key, None, 2).is_none());
        drop(held);
    }

    #[test]
    fn connections_of_one_key_pair_are_limited() {
        let (limiter, key) = (ConnectionLimiter::default(), AgentKeyId::new());
        let held: Vec<_> =
            (0..MAX_OF_KEY_PAIR).map(|_| limiter.admit(key, Some([1; 32]), usize::MAX)).collect();
        assert!(held.iter().all(Option::is_some));
        assert!(limiter.admit(key, Some([1; 32]), usize::MAX).is_none());
        assert!(limiter.admit(key, Some([2; 32]), usize::MAX).is_some());
        drop(held);
        assert!(limiter.admit(key, Some([1; 32]), usize::MAX).is_some());
    }
}
