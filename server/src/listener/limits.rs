//! How long connections may take, and how many there may be.

use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::domain::source::TrustedProxies;

/// Connections at once when nothing else is set.
const DEFAULT_CONNECTIONS: usize = 65_536;
/// Open files that are kept for everything but connections: database, logs, certificates.
const RESERVED_FILES: usize = 256;

/// Bounds of the listener.
#[derive(Debug, Clone)]
pub struct Limits {
    /// From the connection to the end of the handshake of TLS.
    pub handshake: Duration,
    /// From there to the end of the first request's head; and the longest pause in a body.
    pub request_head: Duration,
    /// How long an answer may wait for its reader, without a byte being taken.
    pub answer: Duration,
    /// Connections at once, WebSockets among them; more wait in the kernel's queue.
    pub connections: usize,
    /// Of those, the most of one source.
    pub per_source: usize,
    /// Proxies whose connections are not counted, and whose word on the address of a client counts.
    pub trusted_proxies: TrustedProxies,
}

impl Limits {
    /// What agents and people never come near.
    pub const HANDSHAKE: Duration = Duration::from_secs(10);
    pub const REQUEST_HEAD: Duration = Duration::from_secs(15);
    pub const ANSWER: Duration = Duration::from_secs(60);
    /// Without a request for as long, a connection is closed. Longer than proxies keep theirs (60
    /// seconds are common), so that none sends a request just then.
    pub(super) const IDLE: Duration = Duration::from_secs(75);

    /// How many connections `open_files` allow, of those wanted.
    pub fn connections(wanted: Option<usize>, open_files: usize) -> usize {
        let available = open_files.saturating_sub(RESERVED_FILES).max(1);
        wanted.unwrap_or(DEFAULT_CONNECTIONS).min(available)
    }

    /// How many connections one source may have, of those of the server: three quarters unless set
    /// otherwise, so that other sources find some however many one of them takes.
    pub fn per_source(wanted: Option<usize>, connections: usize) -> usize {
        wanted.unwrap_or(connections - connections / 4).clamp(1, connections)
    }
}

/// Raises the limit of open files as far as the system lets this process, and returns it. The soft
/// limit is low (often 1,024) for the sake of old programs alone.
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
