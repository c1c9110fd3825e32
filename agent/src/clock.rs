//! Timestamps for people, random delays, and the clock by which signed approvals expire. Nothing else is
//! decided by them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ring::rand::{SecureRandom as _, SystemRandom};

/// The current time as RFC 3339 in UTC.
pub fn timestamp() -> String {
    chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

/// Milliseconds since the Unix epoch; 0 for a clock before it.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A random duration, evenly distributed over the range.
pub fn between(shortest: Duration, longest: Duration) -> Duration {
    let mut bytes = [0; 4];
    // Without randomness all agents of a fleet wait the same time, which is worse but not wrong.
    let _ = SystemRandom::new().fill(&mut bytes);
    let share = f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX);
    shortest + longest.saturating_sub(shortest).mul_f64(share)
}
