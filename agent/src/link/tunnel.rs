//! Opens a tunnel through a proxy with CONNECT. The HTTP library performs the exchange but reports
//! only that it failed, so this module captures the proxy's status.

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

/// How long a proxy may take to connect to the server.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// `HTTP/1.1 407`
const STATUS_BYTES: usize = 12;

/// Asks the proxy at the other end of the socket to connect to the server.
///
/// # Errors
/// [`ConnectError`] by the proxy's answer.
pub async fn open(
    proxy: &Proxy,
    endpoint: &Endpoint,
    socket: Box<dyn Socket>,
) -> Result<Box<dyn Socket>, ConnectError> {
    let captured = CapturedBytes::default();
    let mut socket = Some(TokioIo::new(CapturingStream { socket, captured: captured.clone() }));
    let connector = service_fn(move |_| {
        let once = socket.take().ok_or_else(|| io::Error::other("the socket is already in use"));
        std::future::ready(once)
    });
    // Some proxies reject requests without a `User-Agent`.
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

/// The error for a status other than 200; `None` means that the answer was not HTTP.
pub fn connect_error(proxy: &Proxy, endpoint: &Endpoint, status: Option<u16>) -> ConnectError {
    let (name, target) = (proxy.to_string(), endpoint.authority());
    match status {
        // Some proxies answer 401 to a wrong password.
        Some(status @ (401 | 407)) => match proxy.authorization() {
            None => ConnectError::ProxyCredentialsMissing { proxy: name, status },
            Some(_) => ConnectError::ProxyCredentialsWrong { proxy: name, status },
        },
        Some(403) => ConnectError::ProxyForbids { proxy: name, target },
        Some(status) => ConnectError::ProxyRefused { proxy: name, target, status },
        None => ConnectError::NotAProxy { proxy: name },
    }
}

/// The first bytes that the proxy sent.
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

/// A socket that captures the first bytes that are read from it.
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
    fn a_status_split_over_any_reads_is_captured_and_other_bytes_are_not() {
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
