//! Signs of life between their arrival and their commit.
//!
//! A heartbeat is no promise: it waits up to a second for others, so that a quiet fleet costs one
//! transaction a second and not one a heartbeat.

use std::sync::{Arc, Mutex, PoisonError};

use crate::store::writer::RecordHeartbeat;

/// Heartbeats that may wait; beyond, the newest are dropped, since the next ones follow soon.
const MAX_WAITING: usize = 100_000;

/// Shared by the sessions, which add, and the upkeep, which takes. Cheap to clone.
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

    /// Takes all that wait.
    pub(in crate::services) fn take(&self) -> Vec<RecordHeartbeat> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
