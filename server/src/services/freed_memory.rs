//! Counts the bytes of messages that were freed, so that a worker knows when to return them to the system.
//!
//! The system's allocator returns large blocks and the end of each of its heaps by itself. What a flood of
//! small and middling blocks leaves between living ones stays with the process until it is asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Bytes of messages that are worth the search for free pages, which takes milliseconds.
const WORTH_RETURNING_BYTES: usize = 16 * 1024 * 1024;

/// The count. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct FreedMemory(Arc<FreedMemoryInner>);

#[derive(Debug, Default)]
struct FreedMemoryInner {
    bytes: AtomicUsize,
    is_enough: Notify,
}

impl FreedMemory {
    /// Counts bytes that were freed just now.
    pub fn add(&self, bytes: usize) {
        let before = self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes >= WORTH_RETURNING_BYTES {
            self.0.is_enough.notify_one();
        }
    }

    /// Waits until so much was freed that returning it is worth the work.
    pub async fn wait_enough(&self) {
        self.0.is_enough.notified().await;
    }

    /// Starts to count from 0 again.
    pub fn reset(&self) {
        self.0.bytes.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn memory_is_returned_after_many_bytes_and_not_before() {
        let freed = FreedMemory::default();
        freed.add(WORTH_RETURNING_BYTES - 1);
        assert!(freed.wait_enough().now_or_never().is_none());
        freed.add(1);
        assert!(freed.wait_enough().now_or_never().is_some());
        freed.reset();
        freed.add(WORTH_RETURNING_BYTES - 1);
        assert!(freed.wait_enough().now_or_never().is_none(), "it counts from 0 again");
    }
}
