//! Captures the first bytes of a proxy's answer, because the libraries report only that a handshake failed.

use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::http::Uri;
use tower::{Service, service_fn};

use super::socket::Socket;

/// `HTTP/1.1 407`; the three answers of a SOCKS proxy are shorter.
const CAPTURED_BYTES: usize = 12;

/// A connector that returns this connection once, and the first bytes that are read from it.
#[expect(clippy::type_complexity, reason = "a service has no name of its own")]
pub fn capturing_connector(
    socket: Box<dyn Socket>,
) -> (
    CapturedBytes,
    impl Service<
        Uri,
        Response = TokioIo<CapturingStream>,
        Error = io::Error,
        Future = Ready<io::Result<TokioIo<CapturingStream>>>,
    >,
) {
    let captured = CapturedBytes::default();
    let mut socket = Some(TokioIo::new(CapturingStream { socket, captured: captured.clone() }));
    let connector = service_fn(move |_| {
        ready(socket.take().ok_or_else(|| io::Error::other("the socket is already in use")))
    });
    (captured, connector)
}

/// The first bytes that the proxy sent.
#[derive(Debug, Clone, Default)]
pub struct CapturedBytes(Arc<Mutex<Vec<u8>>>);

impl CapturedBytes {
    pub fn note(&self, bytes: &[u8]) {
        let mut captured = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let free_bytes = CAPTURED_BYTES.saturating_sub(captured.len());
        captured.extend(bytes.iter().take(free_bytes));
    }

    /// The bytes so far.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A socket that captures the first bytes that are read from it.
pub struct CapturingStream {
    socket: Box<dyn Socket>,
    captured: CapturedBytes,
}

impl CapturingStream {
    /// The socket, once the proxy has connected it to the server.
    pub fn into_socket(self) -> Box<dyn Socket> {
        self.socket
    }
}

impl AsyncRead for CapturingStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(cx, buffer);
        self.captured.note(&buffer.filled()[before..]);
        read
    }
}

impl AsyncWrite for CapturingStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
