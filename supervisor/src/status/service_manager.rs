//! Sends the supervisor's status to the service manager (`sd_notify(3)`).
//!
//! Own code, because the common crate does not support abstract sockets and blocks when the service
//! manager's queue is full. Without `NOTIFY_SOCKET` every call does nothing.

use std::time::Duration;

#[cfg(unix)]
use std::os::unix::net::UnixDatagram;

/// Variables for the supervisor only; the agent must not inherit them.
pub const SERVICE_MANAGER_VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// A connection to the service manager, if there is one.
#[derive(Debug, Default)]
pub struct ServiceManager {
    #[cfg(unix)]
    socket: Option<UnixDatagram>,
}

impl ServiceManager {
    /// Connects to `NOTIFY_SOCKET`, a path or, with a leading `@`, an abstract name.
    #[cfg(unix)]
    pub fn from_environment() -> Self {
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|name| connect(&name).ok());
        Self { socket }
    }

    /// This platform has no such service manager.
    #[cfg(not(unix))]
    pub fn from_environment() -> Self {
        Self::default()
    }

    /// Sends lines such as `READY=1`. Best effort: errors are ignored.
    pub fn send(&self, message: &str) {
        #[cfg(unix)]
        if let Some(socket) = &self.socket {
            let _ = socket.send(message.as_bytes());
        }
        #[cfg(not(unix))]
        let _ = message;
    }
}

#[cfg(unix)]
fn connect(name: &std::ffi::OsStr) -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    #[cfg(target_os = "linux")]
    {
        use std::os::linux::net::SocketAddrExt as _;
        use std::os::unix::ffi::OsStrExt as _;
        use std::os::unix::net::SocketAddr;

        if let Some(abstract_name) = name.as_bytes().strip_prefix(b"@") {
            socket.connect_addr(&SocketAddr::from_abstract_name(abstract_name)?)?;
            return Ok(socket);
        }
    }
    socket.connect(name)?;
    Ok(socket)
}

/// How often to send `WATCHDOG=1`: half of the watchdog's timeout. `None` if it does not watch this
/// process.
pub fn watchdog_interval(usec: Option<&str>, pid: Option<&str>, own_pid: u32) -> Option<Duration> {
    if pid.is_some_and(|pid| pid.parse() != Ok(own_pid)) {
        return None;
    }
    let usec: u64 = usec?.parse().ok().filter(|usec| *usec > 0)?;
    Some(Duration::from_micros(usec) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watchdog_is_pinged_at_half_of_its_timeout() {
        let interval = watchdog_interval(Some("30000000"), Some("7"), 7);
        assert_eq!(interval, Some(Duration::from_secs(15)));
    }

    #[test]
    fn watchdog_of_another_process_or_a_missing_one_is_not_pinged() {
        assert_eq!(watchdog_interval(Some("30000000"), Some("8"), 7), None);
        assert_eq!(watchdog_interval(None, None, 7), None);
        assert_eq!(watchdog_interval(Some("0"), None, 7), None);
        assert_eq!(watchdog_interval(Some("soon"), None, 7), None);
    }
}
