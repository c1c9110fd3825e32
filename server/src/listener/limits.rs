//! How long connections may take, and how many there may be.

use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Connections at once, default.
const DEFAULT_CONNECTIONS: usize = 65_536;
/// Open files that are reserved for everything but connections: database, logs, certificates.
const RESERVED_FILES: usize = 256;

/// Bounds of the listener.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From the connection to the end of the handshake of TLS.
    pub handshake: Duration,
    /// From there to the end of the first request's head; and the time in which a body must make
    /// progress.
    pub request_head: Duration,
    /// How long an answer may wait for its reader, without any byte being read.
    pub answer: Duration,
    /// Connections at once, including WebSockets; more wait in the kernel's queue.
    pub connections: usize,
}

impl Limits {
    /// Far above what agents and people need.
    pub const HANDSHAKE: Duration = Duration::from_secs(10);
    pub const REQUEST_HEAD: Duration = Duration::from_secs(15);
    pub const ANSWER: Duration = Duration::from_secs(60);
    /// A connection without a request for this time is closed. Longer than proxies keep theirs (60
    /// seconds are common), so that no proxy sends a request at that moment.
    pub(super) const IDLE: Duration = Duration::from_secs(75);

    /// The number of connections that `open_files` permits, at most `wanted`.
    pub fn connections(wanted: Option<usize>, open_files: usize) -> usize {
        let free = open_files.saturating_sub(RESERVED_FILES).max(1);
        wanted.unwrap_or(DEFAULT_CONNECTIONS).min(free)
    }
}

/// Raises the limit of open files as far as the system permits, and returns it. The soft limit is
/// low (often 1,024) only for old programs.
pub fn open_file_limit() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return DEFAULT_CONNECTIONS };
    let raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    usize::try_from(if raised { hard } else { soft }).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_everything_else() {
        assert_eq!(Limits::connections(None, 1_000_000), 65_536);
        assert_eq!(Limits::connections(None, 20_000), 19_744);
        assert_eq!(Limits::connections(Some(100), 20_000), 100);
        assert_eq!(Limits::connections(Some(100_000), 20_000), 19_744);
        assert_eq!(Limits::connections(None, 10), 1);
    }
}
