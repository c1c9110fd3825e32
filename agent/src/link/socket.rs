//! Byte streams: name resolution and TCP connections.

use std::convert::Infallible;
use std::future::ready;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::http::Uri;
use tower::{Service as _, service_fn};

use super::progress::Progress;

/// Time limit for a connection, over all addresses of a name.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes that the system accepts from the agent beyond those that it has sent: a frame that must
/// leave soon never waits behind megabytes.
pub(super) const MAX_UNSENT_BYTES: u32 = 128 * 1024;

/// A bidirectional byte stream.
pub trait Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Socket for T {}

/// All addresses of a name; an address resolves to itself.
///
/// # Errors
/// The resolver's error, and if the name has no address.
pub async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let addresses: Vec<_> = tokio::net::lookup_host((host, port)).await?.collect();
    match addresses.is_empty() {
        true => Err(io::Error::other("the name exists but has no address")),
        false => Ok(addresses),
    }
}

/// Connects to one of the addresses. If one address family does not answer, the other one is tried
/// in parallel after a short delay.
pub async fn connect(uri: Uri, addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let resolved = move |_: Name| ready(Ok::<_, Infallible>(addresses.clone().into_iter()));
    let mut connector = HttpConnector::new_with_resolver(service_fn(resolved));
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    match connector.call(uri).await {
        Ok(stream) => Ok(stream.into_inner()),
        Err(error) => Err(system_error(&error)),
    }
}

/// A TCP connection that notes its progress.
pub struct MeteredStream {
    stream: TcpStream,
    progress: Progress,
    /// The last write found the socket full.
    was_full: bool,
}

impl MeteredStream {
    pub fn new(stream: TcpStream, progress: Progress) -> Self {
        #[cfg(target_os = "linux")]
        // Old kernels do not know the option, and work without it.
        let _ = socket2::SockRef::from(&stream).set_tcp_notsent_lowat(MAX_UNSENT_BYTES);
        progress.note();
        Self { stream, progress, was_full: false }
    }

    fn note_write<T>(&mut self, written: Poll<T>) -> Poll<T> {
        if written.is_ready() && self.was_full {
            self.progress.note();
        }
        self.was_full = written.is_pending();
        written
    }
}

impl AsyncRead for MeteredStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.progress.note();
        }
        read
    }
}

impl AsyncWrite for MeteredStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note_write(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.note_write(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Extracts the system's error from the error of the HTTP library.
fn system_error(error: &(dyn std::error::Error + 'static)) -> io::Error {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(system) = error.downcast_ref::<io::Error>() {
            return match system.raw_os_error() {
                Some(code) => io::Error::from_raw_os_error(code),
                None => io::Error::new(system.kind(), system.to_string()),
            };
        }
        cause = error.source();
    }
    io::Error::other(error.to_string())
}
