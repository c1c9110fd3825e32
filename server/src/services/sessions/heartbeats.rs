//! Heartbeats that were received and not committed yet.
//!
//! A heartbeat needs no durability, so it waits up to a second for others: a quiet fleet costs one
//! transaction a second.

use std::sync::{Arc, Mutex, PoisonError};

use crate::store::writer::RecordHeartbeat;

/// Most waiting heartbeats. Further ones are dropped; the next ones follow soon.
const MAX_WAITING: usize = 100_000;

/// Sessions add heartbeats and maintenance stores them. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Heartbeats(Arc<Mutex<Vec<RecordHeartbeat>>>);

impl Heartbeats {
    /// Adds one.
    pub(in crate::services) fn add(&self, heartbeat: RecordHeartbeat) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < MAX_WAITING {
            waiting.push(heartbeat);
        }
    }

    /// Takes all waiting heartbeats.
    pub(in crate::services) fn take(&self) -> Vec<RecordHeartbeat> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
