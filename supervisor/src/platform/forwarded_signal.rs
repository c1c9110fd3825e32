//! The signals that the supervisor receives and forwards.

use std::time::Duration;

/// A signal that the supervisor receives from outside and forwards to the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardedSignal {
    /// SIGTERM: stop gracefully.
    Terminate,
    /// SIGINT: stop gracefully, requested from a keyboard.
    Interrupt,
    /// SIGHUP: reload the configuration.
    HangUp,
}

impl ForwardedSignal {
    /// The signal's name, for log lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
            Self::HangUp => "SIGHUP",
        }
    }
}

/// Milliseconds for a system call, rounded up so that a short wait does not become a busy loop.
#[cfg_attr(not(unix), expect(dead_code, reason = "only poll(2) counts in these"))]
pub(super) fn whole_milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
}
