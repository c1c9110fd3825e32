//! Notifications from shims and from the host's owner to the agent. A notification only means that
//! there is something new to read.

use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram as StdDatagram;
use std::path::{Path, PathBuf};

use tokio::net::UnixDatagram;

use crate::platform;
use crate::storage::layout::{NOTIFICATION_SOCKET, StateDir};

const SHIM: u8 = 1;
const OWNER: u8 = 2;

/// The agent's receiving end.
#[derive(Debug)]
pub struct NotificationSocket(UnixDatagram);

impl NotificationSocket {
    /// Binds the socket and replaces the one of a previous agent.
    ///
    /// # Errors
    /// The system's error.
    pub fn bind(state: &StateDir) -> io::Result<Self> {
        let _ = std::fs::remove_file(state.path().join(NOTIFICATION_SOCKET));
        let directory = File::open(state.path())?;
        let path = platform::short_socket_path(&directory, state.path(), NOTIFICATION_SOCKET);
        let socket = UnixDatagram::bind(&path)?;
        // Other users may be able to enter the directory; only this user may send notifications.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self(socket))
    }

    /// Returns once at least one notification has arrived: true if one of them came from the host's
    /// owner. May be dropped at any await point.
    pub async fn notified(&self) -> bool {
        let mut buffer = [0; 8];
        loop {
            if self.0.readable().await.is_err() {
                // A socket that can't be waited on would spin. The ends of shims are noticed
                // without it.
                std::future::pending::<()>().await;
            }
            let (mut has_rung, mut is_owner) = (false, false);
            while self.0.try_recv(&mut buffer).is_ok() {
                has_rung = true;
                is_owner |= buffer[0] == OWNER;
            }
            if has_rung {
                return is_owner;
            }
        }
    }
}

/// The sending end. It works even if no agent is listening.
#[derive(Debug)]
pub struct Notifier {
    socket: Option<StdDatagram>,
    directory: Option<File>,
    state: PathBuf,
}

impl Notifier {
    /// Prepares notifications to the agent of this state directory, now or later.
    pub fn new(state: &Path) -> Self {
        let socket = StdDatagram::unbound()
            .and_then(|socket| socket.set_nonblocking(true).map(|()| socket))
            .ok();
        Self { socket, directory: File::open(state).ok(), state: state.to_owned() }
    }

    /// Notifies without waiting. A full queue means that the agent will read the state anyway.
    pub fn notify(&self) {
        self.send(SHIM);
    }

    /// Notifies on behalf of the host's owner, who has written a request.
    pub fn notify_for_owner(&self) {
        self.send(OWNER);
    }

    fn send(&self, tone: u8) {
        if let (Some(socket), Some(directory)) = (&self.socket, &self.directory) {
            let path = platform::short_socket_path(directory, &self.state, NOTIFICATION_SOCKET);
            let _ = socket.send_to(&[tone], path);
        }
    }
}
