//! When a connection last made progress: bytes arrived, or a full socket accepted bytes again, which
//! it does only after the other side has received some.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::time::Instant;

static PROCESS_START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Shared by a connection and the link over it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Progress(Arc<AtomicU64>);

impl Default for Progress {
    fn default() -> Self {
        let progress = Self(Arc::default());
        progress.note();
        progress
    }
}

impl Progress {
    /// The connection has made progress.
    pub fn note(&self) {
        let millis = PROCESS_START.elapsed().as_millis();
        self.0.store(u64::try_from(millis).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The last progress, to the millisecond.
    pub fn last_at(&self) -> Instant {
        *PROCESS_START + Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}
