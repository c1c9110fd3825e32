//! Through a proxy with CONNECT. The exchange itself is the HTTP library's; listening to what the
//! proxy answers, where the library only says that it did not work, is done here.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::http::header::USER_AGENT;
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderValue};
use tower::{Service as _, service_fn};

use super::ConnectError;
use super::endpoint::Endpoint;
use super::proxy::Proxy;
use super::socket::Socket;

/// How long a proxy may take to reach the server.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// `HTTP/1.1 407`
const STATUS_BYTES: usize = 12;

/// Has the proxy at the other end of the socket connect to the server.
///
/// # Errors
/// [`ConnectError`] by what the proxy answered.
pub async fn open(
    proxy: &Proxy,
    endpoint: &Endpoint,
    socket: Box<dyn Socket>,
) -> Result<Box<dyn Socket>, ConnectError> {
    let captured = CapturedBytes::default();
    let mut socket = Some(TokioIo::new(CapturingStream { socket, captured: captured.clone() }));
    let connector = service_fn(move |_| {
        let once = socket.take().ok_or_else(|| io::Error::other("one socket, one tunnel"));
        std::future::ready(once)
    });
    // Some proxies turn away whoever does not say what it is.
    let agent = HeaderValue::from_static(super::USER_AGENT);
    let headers = HeaderMap::from_iter([(USER_AGENT, agent)]);
    let mut tunnel = Tunnel::new(proxy.uri().clone(), connector).with_headers(headers);
    if let Some(authorization) = proxy.authorization() {
        tunnel = tunnel.with_auth(authorization.clone());
    }
    let name = proxy.to_string();
    match timeout(ANSWER_TIMEOUT, tunnel.call(endpoint.uri())).await {
        Ok(Ok(opened)) => Ok(opened.into_inner().socket),
        Ok(Err(_)) => Err(connect_error(proxy, endpoint, captured.status())),
        Err(_) => Err(ConnectError::ProxySilent { proxy: name, seconds: ANSWER_TIMEOUT.as_secs() }),
    }
}

/// What an answer of the proxy other than 200 means; `None` is no answer of HTTP.
pub fn connect_error(proxy: &Proxy, endpoint: &Endpoint, status: Option<u16>) -> ConnectError {
    let (name, target) = (proxy.to_string(), endpoint.authority());
    match status {
        // Some say 401 to a password that is wrong.
        Some(status @ (401 | 407)) => match proxy.authorization() {
            None => ConnectError::ProxyCredentialsMissing { proxy: name, status },
            Some(_) => ConnectError::ProxyCredentialsWrong { proxy: name, status },
        },
        Some(403) => ConnectError::ProxyForbids { proxy: name, target },
        Some(status) => ConnectError::ProxyRefused { proxy: name, target, status },
        None => ConnectError::NotAProxy { proxy: name },
    }
}

/// The first bytes that came from the proxy.
#[derive(Debug, Clone, Default)]
struct CapturedBytes(Arc<Mutex<Vec<u8>>>);

impl CapturedBytes {
    fn note(&self, bytes: &[u8]) {
        let mut captured = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = STATUS_BYTES.saturating_sub(captured.len());
        captured.extend(bytes.iter().take(room));
    }

    fn status(&self) -> Option<u16> {
        let captured = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let status = std::str::from_utf8(&captured).ok()?.strip_prefix("HTTP/1.")?.get(2..)?;
        status.parse().ok().filter(|status| (100..600).contains(status))
    }
}

/// A socket whose first bytes are noted on the side.
struct CapturingStream {
    socket: Box<dyn Socket>,
    captured: CapturedBytes,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_heard_however_the_bytes_come_and_nonsense_is_none() {
        let status = |pieces: &[&[u8]]| {
            let captured = CapturedBytes::default();
            pieces.iter().for_each(|piece| captured.note(piece));
            captured.status()
        };
        assert_eq!(status(&[b"HTTP/1.1 407 Proxy Authentication Required\r\n"]), Some(407));
        assert_eq!(status(&[b"HT", b"TP/1.0 4", b"03", b" Forbidden"]), Some(403));
        for nonsense in [&b""[..], b"SSH-2.0-OpenSSH", b"HTTP/1.1", b"HTTP/1.1 x", b"\xff\xff"] {
            assert_eq!(status(&[nonsense]), None);
        }
    }
}
