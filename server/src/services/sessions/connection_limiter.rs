//! Limits the connections of each agent key.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::domain::ids::AgentKeyId;

/// Shared by every session of the server.
#[derive(Debug, Clone, Default)]
pub(super) struct ConnectionLimiter(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    counts: Mutex<KeyConnections>,
    ended: Notify,
}

#[derive(Debug, Default)]
struct KeyConnections {
    by_key: HashMap<AgentKeyId, usize>,
    is_closed: bool,
}

/// One connection, counted until it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    limiter: ConnectionLimiter,
    key_id: AgentKeyId,
}

impl ConnectionLimiter {
    /// Admits a connection of a key that may have `max` of them. `None` at the limit, and after
    /// [`Self::close`].
    pub(super) fn acquire(&self, key_id: AgentKeyId, max: usize) -> Option<ConnectionPermit> {
        let mut counts = self.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.is_closed {
            return None;
        }
        let count = counts.by_key.entry(key_id).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(ConnectionPermit { limiter: self.clone(), key_id })
    }

    /// Admits no more connections.
    pub(super) fn close(&self) {
        self.0.counts.lock().unwrap_or_else(PoisonError::into_inner).is_closed = true;
    }

    /// Waits until all connections have ended.
    pub(super) async fn wait_empty(&self) {
        loop {
            let ended = self.0.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.0.counts.lock().unwrap_or_else(PoisonError::into_inner).by_key.is_empty() {
                return;
            }
            ended.await;
        }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut counts = self.limiter.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.by_key.get_mut(&self.key_id) {
            *count -= 1;
            if *count == 0 {
                counts.by_key.remove(&self.key_id);
            }
        }
        drop(counts);
        self.limiter.0.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_at_its_connection_limit_is_refused() {
        let limiter = ConnectionLimiter::default();
        let key = AgentKeyId::new();
        let first = limiter.acquire(key, 2).expect("below the limit");
        let _second = limiter.acquire(key, 2).expect("below the limit");
        assert!(limiter.acquire(key, 2).is_none());
        assert!(limiter.acquire(AgentKeyId::new(), 2).is_some(), "another key has its own limit");
        drop(first);
        assert!(limiter.acquire(key, 2).is_some());
        limiter.close();
        assert!(limiter.acquire(AgentKeyId::new(), 2).is_none());
    }
}
