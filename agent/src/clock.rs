//! Instants for people, and a little chance for machines. They inform; they decide nothing.

use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};

/// Now, as RFC 3339 in UTC.
pub fn timestamp() -> String {
    chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

/// A duration drawn evenly from the range.
pub fn between(shortest: Duration, longest: Duration) -> Duration {
    let mut bytes = [0; 4];
    // Without chance every agent of a fleet waits the same time: worse, but not wrong.
    let _ = SystemRandom::new().fill(&mut bytes);
    let share = f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX);
    shortest + longest.saturating_sub(shortest).mul_f64(share)
}
