//! Log lines about frames that the server rejected or that the agent ignores.
//!
//! One line of a kind a minute, over all sessions, with the server's texts cut: a server cannot fill
//! the log of a host with them.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use tokio::time::Instant;

/// Time between two lines of one kind.
const INTERVAL: Duration = Duration::from_secs(60);
/// Longest text of the server in a line, in characters.
const MAX_TEXT_CHARS: usize = 300;

/// When each kind was last logged, and how many frames followed.
#[derive(Debug, Default)]
pub struct FrameLog(BTreeMap<&'static str, (Instant, u64)>);

impl FrameLog {
    /// Logs that the server rejected a frame.
    pub fn rejected(&mut self, code: impl Debug, message: &str) {
        if let Some(unlogged) = self.due("rejected", Instant::now()) {
            let message = cut(message);
            tracing::warn!(?code, %message, unlogged, "the server rejected a frame");
        }
    }

    /// Logs that the agent ignored a frame.
    pub fn ignored(&mut self, kind: &'static str, message: &str) {
        if let Some(unlogged) = self.due(kind, Instant::now()) {
            let message = cut(message);
            tracing::warn!(%message, unlogged, "ignored a frame");
        }
    }

    /// The number of frames of this kind without a line, if a line is due.
    fn due(&mut self, kind: &'static str, now: Instant) -> Option<u64> {
        let unlogged = match self.0.get_mut(kind) {
            Some((at, count)) if now.duration_since(*at) < INTERVAL => {
                *count += 1;
                return None;
            }
            Some((_, count)) => *count,
            None => 0,
        };
        self.0.insert(kind, (now, 0));
        Some(unlogged)
    }
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_one_line_a_minute_that_counts_the_frames_without_one() {
        let (mut log, start) = (FrameLog::default(), Instant::now());
        assert_eq!(log.due("rejected", start), Some(0));
        for _ in 0..300 {
            assert_eq!(log.due("rejected", start), None);
        }
        assert_eq!(log.due("unknown", start), Some(0));
        assert_eq!(log.due("rejected", start + INTERVAL), Some(300));
        assert_eq!(log.due("rejected", start + INTERVAL), None);
    }
}
