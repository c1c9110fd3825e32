//! Time limits of connections, and their number.

use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::domain::source::TrustedProxies;

/// Default limit of concurrent connections.
const DEFAULT_CONNECTIONS: usize = 65_536;
/// Open files reserved for everything except connections: database, logs, certificates.
const RESERVED_FILES: usize = 256;

/// Limits of the listener.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Time for the TLS handshake.
    pub handshake: Duration,
    /// Time after it for the head of the first request, and the longest pause within a body.
    pub request_head: Duration,
    /// How long an answer may wait for a client that reads nothing of it.
    pub answer: Duration,
    /// Concurrent connections, including WebSockets; more of them wait in the kernel's queue.
    pub connections: usize,
    /// Concurrent connections of one source address.
    pub per_source: usize,
    /// Proxies whose connections are not counted by source, and which are trusted to name the client.
    pub trusted_proxies: TrustedProxies,
}

impl Limits {
    /// The defaults. Agents and browsers need a fraction of these times.
    pub const HANDSHAKE: Duration = Duration::from_secs(10);
    pub const REQUEST_HEAD: Duration = Duration::from_secs(15);
    pub const ANSWER: Duration = Duration::from_secs(60);
    /// A connection without a request for this time is closed. Proxies close theirs earlier (60 seconds are
    /// common), so none of them sends a request over a connection that closes.
    pub(super) const IDLE: Duration = Duration::from_secs(75);

    /// The number of connections: the one that is set, or the default, as far as `open_files` permits.
    pub fn connections(wanted: Option<usize>, open_files: usize) -> usize {
        let available = open_files.saturating_sub(RESERVED_FILES).max(1);
        wanted.unwrap_or(DEFAULT_CONNECTIONS).min(available)
    }

    /// The number of connections of one source: by default three quarters of `connections`, so that one source
    /// can't take all of them.
    pub fn per_source(wanted: Option<usize>, connections: usize) -> usize {
        wanted.unwrap_or(connections - connections / 4).clamp(1, connections)
    }
}

/// Raises the limit of open files to the hard limit, and returns it. The soft limit is low (often 1,024) because
/// some old programs need that.
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
