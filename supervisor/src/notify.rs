//! Tells the service manager how the supervisor is doing (`sd_notify(3)`).
//!
//! Own code because the common crate knows no abstract sockets and blocks when the manager's queue
//! is full; a supervisor must do neither. Without `NOTIFY_SOCKET` every call does nothing.

use std::time::Duration;

#[cfg(unix)]
use std::os::unix::net::UnixDatagram;

/// Variables that speak to the supervisor alone; the agent must not inherit them.
pub const OWN_VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// A connection to the service manager, if there is one.
#[derive(Debug, Default)]
pub struct Notifier {
    #[cfg(unix)]
    socket: Option<UnixDatagram>,
}

impl Notifier {
    /// Connects to `NOTIFY_SOCKET`, a path or, with a leading `@`, an abstract name.
    #[cfg(unix)]
    pub fn from_environment() -> Self {
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|name| connect(&name).ok());
        Self { socket }
    }

    /// There is no service manager of this kind here.
    #[cfg(not(unix))]
    pub fn from_environment() -> Self {
        Self::default()
    }

    /// Sends lines such as `READY=1`. Best effort: the manager's health is not ours.
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

/// How often to send `WATCHDOG=1`: half of what the manager allows. `None` if it does not watch
/// this process.
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
    fn watchdog_is_fed_at_half_its_patience() {
        let interval = watchdog_interval(Some("30000000"), Some("7"), 7);
        assert_eq!(interval, Some(Duration::from_secs(15)));
    }

    #[test]
    fn watchdog_of_another_process_or_none_is_left_alone() {
        assert_eq!(watchdog_interval(Some("30000000"), Some("8"), 7), None);
        assert_eq!(watchdog_interval(None, None, 7), None);
        assert_eq!(watchdog_interval(Some("0"), None, 7), None);
        assert_eq!(watchdog_interval(Some("soon"), None, 7), None);
    }
}
