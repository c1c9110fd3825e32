//! What differs between operating systems: signals, and the life of child processes.
//!
//! Knows nothing of exit codes' meaning or of what to do next. Linux is what the tests run on.
//! macOS shares all but `linux.rs` and is unverified; `portable.rs` (Windows) compiles from the
//! standard library alone and is unverified as well.

use std::time::Duration;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(unix))]
mod portable;
#[cfg(unix)]
mod unix;

#[cfg(not(unix))]
pub use portable::{
    Host, become_program, default_state_dir, free_bytes, is_alive, is_init, refuse_links_and_pipes,
    runs_from,
};
#[cfg(unix)]
pub use unix::{
    Host, become_program, default_state_dir, free_bytes, is_alive, is_init, refuse_links_and_pipes,
    runs_from,
};

/// What the outside asks of the supervisor, and the supervisor of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Stop in good order (SIGTERM).
    Terminate,
    /// The same from a keyboard (SIGINT).
    Interrupt,
    /// Read the configuration again (SIGHUP).
    HangUp,
}

impl Request {
    /// As a log line names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
            Self::HangUp => "SIGHUP",
        }
    }
}

/// Milliseconds for a system call, rounded up so that a short rest does not become a busy loop.
#[cfg_attr(not(unix), expect(dead_code, reason = "only poll(2) counts in these"))]
fn whole_milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
}
