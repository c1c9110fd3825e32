//! What the agent has learned about proxies between it and the server: the largest body that passes,
//! and how long a quiet connection lives. Remembered until the agent's process ends.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use muster_protocol::frame::exchange::MAX_BODY_BYTES;

/// Smallest body that is tried.
pub const MIN_BODY_BYTES: usize = 4 * 1024;
/// A connection that breaks after a shorter quiet time was not cut for being quiet.
const MIN_QUIET: Duration = Duration::from_secs(3);
/// Bounds of the time between two signs of life.
const MIN_INTERVAL: Duration = Duration::from_secs(2);
const MAX_INTERVAL: Duration = Duration::from_secs(300);
/// The part of the quiet time that cut a connection after which the agent sends a sign of life.
const SAFE_PART: f64 = 0.6;
/// How much the quiet times of two cuts may differ to have the same cause.
const SIMILAR: Duration = Duration::from_secs(2);

/// Shared by all connections to one server. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct PathLimits(Arc<Mutex<Learned>>);

#[derive(Debug)]
struct Learned {
    max_body_bytes: usize,
    /// Quiet time before the last cut.
    last_quiet: Option<Duration>,
    interval: Option<Duration>,
}

impl Default for Learned {
    fn default() -> Self {
        Self { max_body_bytes: MAX_BODY_BYTES, last_quiet: None, interval: None }
    }
}

impl PathLimits {
    /// The largest body to send.
    pub fn max_body_bytes(&self) -> usize {
        self.learned().max_body_bytes
    }

    /// A body of this size was refused as too large: half of it is tried next.
    pub fn refused_body(&self, bytes: usize) {
        let mut learned = self.learned();
        let next = (bytes / 2).max(MIN_BODY_BYTES).min(learned.max_body_bytes);
        if next < learned.max_body_bytes {
            learned.max_body_bytes = next;
            tracing::warn!(
                refused_bytes = bytes,
                next_bytes = next,
                "a proxy refuses bodies of this size; sending smaller ones from now on"
            );
        }
    }

    /// How long a connection may be quiet, if connections were cut for that.
    pub fn keep_alive_interval(&self) -> Option<Duration> {
        self.learned().interval
    }

    /// A connection was cut after nothing was sent or received for this time. Two similar cuts in a
    /// row show that something on the way cuts quiet connections.
    pub fn cut_after(&self, quiet: Duration) {
        if quiet < MIN_QUIET || quiet > MAX_INTERVAL {
            return;
        }
        let mut learned = self.learned();
        let last = learned.last_quiet.replace(quiet);
        if last.is_some_and(|last| last.abs_diff(quiet) <= SIMILAR.max(quiet / 10)) {
            learned.set_interval(quiet);
        }
    }

    /// A request was cut while it waited for the server for this time.
    pub fn cut_while_waiting(&self, waited: Duration) {
        if waited >= MIN_QUIET {
            self.learned().set_interval(waited);
        }
    }

    fn learned(&self) -> MutexGuard<'_, Learned> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Learned {
    fn set_interval(&mut self, quiet: Duration) {
        let interval = quiet.mul_f64(SAFE_PART).clamp(MIN_INTERVAL, MAX_INTERVAL);
        if self.interval.is_none_or(|known| interval < known) {
            self.interval = Some(interval);
            tracing::warn!(
                quiet_ms = quiet.as_millis() as u64,
                interval_ms = interval.as_millis() as u64,
                "quiet connections are cut on the way; sending signs of life more often"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_bodies_are_halved_down_to_the_smallest() {
        let limits = PathLimits::default();
        assert_eq!(limits.max_body_bytes(), MAX_BODY_BYTES);
        limits.refused_body(MAX_BODY_BYTES);
        assert_eq!(limits.max_body_bytes(), MAX_BODY_BYTES / 2);
        limits.refused_body(MAX_BODY_BYTES);
        assert_eq!(limits.max_body_bytes(), MAX_BODY_BYTES / 2, "known already");
        for _ in 0..20 {
            limits.refused_body(limits.max_body_bytes());
        }
        assert_eq!(limits.max_body_bytes(), MIN_BODY_BYTES);
    }

    #[test]
    fn two_similar_cuts_in_a_row_set_the_interval_and_others_do_not() {
        let limits = PathLimits::default();
        let seconds = Duration::from_secs;
        for quiet in [20, 1, 31, 50, 400] {
            limits.cut_after(seconds(quiet));
            assert_eq!(limits.keep_alive_interval(), None, "{quiet}");
        }
        limits.cut_after(seconds(20));
        limits.cut_after(seconds(21));
        assert_eq!(limits.keep_alive_interval(), Some(seconds(21).mul_f64(SAFE_PART)));
        limits.cut_after(seconds(12));
        limits.cut_after(seconds(12));
        assert_eq!(limits.keep_alive_interval(), Some(seconds(12).mul_f64(SAFE_PART)));
    }
}
