//! The control socket of a running server: `control.sock` in the data directory. Only the user that runs the
//! server can ask it for what has no place in the API.
//!
//! A connection has one request and one reply, each a line of JSON.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::geteuid;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

/// The name of the socket in the data directory.
const NAME: &str = "control.sock";
/// Longest line.
const MAX_LINE_BYTES: u64 = 4 * 1024;
/// How long a client may take to send its request.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);

/// What the server is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "operation", rename_all = "snake_case")]
pub enum ControlRequest {
    RotateMasterKey,
    RotateAuditKey,
}

/// The result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum ControlReply {
    MasterKeyRotated { sealed: u64, unreadable: u64, file: PathBuf, previous_file: PathBuf },
    AuditKeyRotated { logs: u64, previous: String, present: String },
    Failed { reason: String },
}

/// The socket can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ControlSocketError {
    #[error("failed to open the control socket {}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("failed to ask the running server; repeat the command to find out whether it is done")]
    Lost(#[source] io::Error),
    #[error("another user runs the server; run this command as the user of the server")]
    OtherUser,
}

/// Accepts connections. The socket is removed when this is dropped.
#[derive(Debug)]
pub struct ControlListener {
    listener: UnixListener,
    path: PathBuf,
}

/// A request of the same user that waits for its reply.
#[derive(Debug)]
pub struct ControlConnection {
    pub request: ControlRequest,
    stream: UnixStream,
}

impl ControlListener {
    /// Opens the socket. The caller holds the lock of the data directory, so a socket that is there was left by
    /// a server that was killed.
    ///
    /// # Errors
    /// [`ControlSocketError::Open`].
    pub fn bind(data_dir: &Path) -> Result<Self, ControlSocketError> {
        let path = data_dir.join(NAME);
        let bind = || {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            // The data directory and the umask keep other users out until the mode is set; after that the mode
            // and the check of each connection do.
            let folder = File::open(data_dir)?;
            let listener = UnixListener::bind(short_path(&folder))?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
            Ok(listener)
        };
        match bind() {
            Ok(listener) => Ok(Self { listener, path }),
            Err(source) => Err(ControlSocketError::Open { path, source }),
        }
    }

    /// The next request of the user that runs the server. Others are closed without a reply.
    ///
    /// # Errors
    /// If the socket can't accept connections now.
    pub async fn accept(&self) -> io::Result<ControlConnection> {
        loop {
            let (mut stream, _) = self.listener.accept().await?;
            if !is_same_user(&stream) {
                tracing::warn!("closed a connection of another user to the control socket");
                continue;
            }
            let request = tokio::time::timeout(REQUEST_WITHIN, read_line(&mut stream)).await;
            if let Ok(Ok(request)) = request {
                return Ok(ControlConnection { request, stream });
            }
        }
    }
}

impl Drop for ControlListener {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl ControlConnection {
    /// Sends the reply. A client that is gone loses it.
    pub async fn reply(mut self, reply: &ControlReply) {
        let _ = write_line(&mut self.stream, reply).await;
    }
}

/// Asks the server that uses a data directory. `None` if none is running there.
///
/// # Errors
/// [`ControlSocketError`].
pub async fn ask(
    data_dir: &Path,
    request: ControlRequest,
) -> Result<Option<ControlReply>, ControlSocketError> {
    let path = data_dir.join(NAME);
    let Ok(folder) = File::open(data_dir) else { return Ok(None) };
    let mut stream = match UnixStream::connect(short_path(&folder)).await {
        Ok(stream) => stream,
        // A server that was killed leaves its socket.
        Err(error)
            if [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused]
                .contains(&error.kind()) =>
        {
            return Ok(None);
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(ControlSocketError::OtherUser);
        }
        Err(source) => return Err(ControlSocketError::Open { path, source }),
    };
    if !is_same_user(&stream) {
        return Err(ControlSocketError::OtherUser);
    }
    write_line(&mut stream, &request).await.map_err(ControlSocketError::Lost)?;
    read_line(&mut stream).await.map(Some).map_err(ControlSocketError::Lost)
}

/// The path of the socket by the open folder: the path of a socket has at most 107 bytes.
fn short_path(folder: &File) -> PathBuf {
    format!("/proc/self/fd/{}/{NAME}", folder.as_raw_fd()).into()
}

fn is_same_user(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == geteuid().as_raw())
}

async fn read_line<T: DeserializeOwned>(stream: &mut UnixStream) -> io::Result<T> {
    let mut line = Vec::new();
    BufReader::new(stream.take(MAX_LINE_BYTES)).read_until(b'\n', &mut line).await?;
    if !line.ends_with(b"\n") {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    serde_json::from_slice(&line).map_err(io::Error::from)
}

async fn write_line(stream: &mut UnixStream, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    stream.write_all(&line).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_is_replied_to_and_a_socket_without_a_server_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let nothing = ask(folder.path(), ControlRequest::RotateAuditKey).await.expect("asked");
        assert_eq!(nothing, None);
        // Left by a server that was killed.
        drop(std::os::unix::net::UnixListener::bind(folder.path().join(NAME)).expect("a socket"));
        let nothing = ask(folder.path(), ControlRequest::RotateAuditKey).await.expect("asked");
        assert_eq!(nothing, None);

        let listener = ControlListener::bind(folder.path()).expect("a socket");
        let mode = std::fs::metadata(folder.path().join(NAME)).expect("the socket").permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        let malformed = async {
            let mut stream =
                UnixStream::connect(folder.path().join(NAME)).await.expect("connected");
            stream.write_all(b"{\"operation\":\"stop\"}\n").await.expect("sent");
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.expect("closed");
            assert!(answer.is_empty());
            ask(folder.path(), ControlRequest::RotateAuditKey).await
        };
        let reply = ControlReply::Failed { reason: "no".into() };
        let serve = async {
            let connection = listener.accept().await.expect("a request");
            assert_eq!(connection.request, ControlRequest::RotateAuditKey);
            connection.reply(&reply).await;
        };
        let (answered, ()) = tokio::join!(malformed, serve);
        assert_eq!(answered.expect("asked"), Some(reply.clone()));
        drop(listener);
        assert!(!folder.path().join(NAME).exists());
    }
}
