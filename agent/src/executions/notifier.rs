//! The notifier between shims and agent: "something is new", never what. The host's owner rings it too, in
//! another tone.

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

/// The agent's end.
#[derive(Debug)]
pub struct NotificationSocket(UnixDatagram);

impl NotificationSocket {
    /// Takes the place of a former agent's socket.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn bind(state: &StateDir) -> io::Result<Self> {
        let _ = std::fs::remove_file(state.path().join(NOTIFICATION_SOCKET));
        let directory = File::open(state.path())?;
        let path = platform::short_socket_path(&directory, state.path(), NOTIFICATION_SOCKET);
        let socket = UnixDatagram::bind(&path)?;
        // Others may be let through the directory; the notifier is for this user's shims.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self(socket))
    }

    /// Returns once the notifier has rung, however often: true if the host's owner was among those who
    /// did. May be dropped at any point.
    pub async fn notified(&self) -> bool {
        let mut buffer = [0; 8];
        loop {
            if self.0.readable().await.is_err() {
                // A socket that can't be waited on would spin; the ends of shims still come through.
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

/// The other end. Nobody may be there to hear it.
#[derive(Debug)]
pub struct Notifier {
    socket: Option<StdDatagram>,
    directory: Option<File>,
    state: PathBuf,
}

impl Notifier {
    /// A notifier for the agent that uses this state directory, now or later.
    pub fn new(state: &Path) -> Self {
        let socket = StdDatagram::unbound()
            .and_then(|socket| socket.set_nonblocking(true).map(|()| socket))
            .ok();
        Self { socket, directory: File::open(state).ok(), state: state.to_owned() }
    }

    /// Rings without waiting. A full queue means that the agent is going to look anyway.
    pub fn notify(&self) {
        self.send(SHIM);
    }

    /// Rings for the host's owner, who asks for something.
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
