//! Waiting on conditions: the one place in the tests where time passes on purpose.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// How long a condition may take to come true. Generous: these machines are shared, and a test
/// that passes never waits this long.
const PATIENCE: Duration = Duration::from_secs(45);
/// Between two looks at a condition.
const INTERVAL: Duration = Duration::from_millis(20);

/// Looks again and again until `look` gives a value, and returns it.
///
/// # Panics
/// When the condition has not come true in time; `what` says which.
pub async fn eventually<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    within(PATIENCE, what, look).await
}

/// [`eventually`], with a patience of its own.
///
/// # Panics
/// When the condition has not come true in time; `what` says which.
pub async fn within<T>(
    patience: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = look().await {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {patience:?} in vain for: {what}");
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Lets time pass that is a part of what is tried, such as how long a link is down. Never to wait
/// for something.
pub async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

/// [`eventually`], where what was seen last says why it did not come true.
///
/// # Panics
/// When the condition has not come true in time; the message shows the last `Err`.
pub async fn eventually_shown<T, E: Debug>(
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look().await {
            Ok(value) => return value,
            Err(seen) => {
                assert!(Instant::now() < deadline, "waited in vain for: {what}; last: {seen:#?}");
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// [`eventually`] for places without a runtime, such as a drop; `None` when time is up.
pub fn eventually_blocking<T>(
    patience: Duration,
    mut look: impl FnMut() -> Option<T>,
) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = look() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(INTERVAL);
    }
}
