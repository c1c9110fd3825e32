//! Returns memory to the system after floods of large messages.

use std::time::Duration;

use crate::adapters::memory::return_free_pages;
use crate::services::freed_memory::FreedMemory;

/// How long the worker waits before it searches for free memory, so that a flood that lasts is not slowed
/// down by a search for each of its bursts.
const RETURN_PAUSE: Duration = Duration::from_secs(5);

/// Runs until it is dropped.
pub(super) async fn run(freed: FreedMemory) {
    loop {
        freed.wait_enough().await;
        tokio::time::sleep(RETURN_PAUSE).await;
        freed.reset();
        // A search that fails has panicked, and there is nothing to do about it.
        let _ = tokio::task::spawn_blocking(return_free_pages).await;
    }
}
