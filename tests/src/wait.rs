//! Waits for conditions: the only file of the tests that sleeps.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// How long a condition may take to become true. Generous, because machines are shared and a
/// passing test never waits this long.
const PATIENCE: Duration = Duration::from_secs(45);
/// Shortest and longest pause between two checks of a condition. A check is often a request that costs the
/// machine more than the wait, and other tests run beside it.
const MIN_PAUSE: Duration = Duration::from_millis(10);
const MAX_PAUSE: Duration = Duration::from_millis(100);

/// The pause before the next check: a tenth of the time that the wait has taken so far.
fn pause_after(start: Instant) -> Duration {
    (start.elapsed() / 10).clamp(MIN_PAUSE, MAX_PAUSE)
}

/// Calls `look` until it returns a value, and returns that.
///
/// # Panics
/// If the condition does not become true in time; the message contains `what`.
pub async fn eventually<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    within(PATIENCE, what, look).await
}

/// [`eventually`] with another time limit.
///
/// # Panics
/// If the condition does not become true in time; the message contains `what`.
pub async fn within<T>(
    patience: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = look().await {
            return value;
        }
        assert!(start.elapsed() < patience, "waited {patience:?} in vain for: {what}");
        tokio::time::sleep(pause_after(start)).await;
    }
}

/// Waits for a time that is part of the test, such as how long a link is down. Never use it to wait
/// for a condition.
pub async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

/// [`eventually`] with a message that explains what was seen last.
///
/// # Panics
/// If the condition does not become true in time; the message contains the last `Err`.
pub async fn eventually_shown<T, E: Debug>(
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let start = Instant::now();
    loop {
        match look().await {
            Ok(value) => return value,
            Err(seen) => {
                assert!(
                    start.elapsed() < PATIENCE,
                    "timed out waiting for: {what}; last: {seen:#?}"
                );
            }
        }
        tokio::time::sleep(pause_after(start)).await;
    }
}

/// [`eventually`] without a runtime, such as in a drop; `None` when the time is up.
pub fn eventually_blocking<T>(
    patience: Duration,
    mut look: impl FnMut() -> Option<T>,
) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = look() {
            return Some(value);
        }
        if start.elapsed() >= patience {
            return None;
        }
        std::thread::sleep(pause_after(start));
    }
}
