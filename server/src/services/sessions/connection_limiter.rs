//! How many connections each key has here, and whether more are let in.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::domain::ids::AgentKeyId;

/// Shared by every session of the server.
#[derive(Debug, Clone, Default)]
pub(super) struct ConnectionLimiter(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    counts: Mutex<Counts>,
    left: Notify,
}

#[derive(Debug, Default)]
struct Counts {
    by_key: HashMap<AgentKeyId, usize>,
    is_closed: bool,
}

/// One connection; counted until it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    census: ConnectionLimiter,
    key_id: AgentKeyId,
}

impl ConnectionLimiter {
    /// Counts a connection of a key that may have `most`; `None` if it has, or none is let in.
    pub(super) fn enter(&self, key_id: AgentKeyId, most: usize) -> Option<ConnectionPermit> {
        let mut counts = self.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.is_closed {
            return None;
        }
        let count = counts.by_key.entry(key_id).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(ConnectionPermit { census: self.clone(), key_id })
    }

    /// Lets nobody in any more.
    pub(super) fn close(&self) {
        self.0.counts.lock().unwrap_or_else(PoisonError::into_inner).is_closed = true;
    }

    /// Waits until nobody is here.
    pub(super) async fn empty(&self) {
        loop {
            let left = self.0.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            if self.0.counts.lock().unwrap_or_else(PoisonError::into_inner).by_key.is_empty() {
                return;
            }
            left.await;
        }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut counts = self.census.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.by_key.get_mut(&self.key_id) {
            *count -= 1;
            if *count == 0 {
                counts.by_key.remove(&self.key_id);
            }
        }
        drop(counts);
        self.census.0.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_no_more_connections_than_it_may() {
        let census = ConnectionLimiter::default();
        let key = AgentKeyId::new();
        let first = census.enter(key, 2).expect("room");
        let _second = census.enter(key, 2).expect("room");
        assert!(census.enter(key, 2).is_none());
        assert!(census.enter(AgentKeyId::new(), 2).is_some(), "another key is not concerned");
        drop(first);
        assert!(census.enter(key, 2).is_some());
        census.close();
        assert!(census.enter(AgentKeyId::new(), 2).is_none());
    }
}
