//! When bytes last arrived on a connection: the progress of a large message shows that its sender is
//! alive, long before the message is complete.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::time::Instant;

static PROCESS_START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Shared by a connection and the session over it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Activity(Arc<AtomicU64>);

impl Default for Activity {
    fn default() -> Self {
        let activity = Self(Arc::default());
        activity.note();
        activity
    }
}

impl Activity {
    /// Bytes have arrived.
    pub fn note(&self) {
        let millis = PROCESS_START.elapsed().as_millis();
        self.0.store(u64::try_from(millis).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// When bytes last arrived, to the millisecond.
    pub fn last_at(&self) -> Instant {
        *PROCESS_START + Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}
