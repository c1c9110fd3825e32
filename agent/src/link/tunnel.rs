//! Opens a tunnel through a proxy with CONNECT. The HTTP library performs the exchange but reports
//! only that it failed, so this module reads the proxy's status from the captured bytes.

use std::time::Duration;

use hyper_util::client::legacy::connect::proxy::Tunnel;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::http::header::USER_AGENT;
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderValue};
use tower::Service as _;

use super::ConnectError;
use super::captured_bytes::{CapturedBytes, capturing_connector};
use super::endpoint::Endpoint;
use super::proxy::Proxy;
use super::socket::Socket;

/// How long a proxy may take to connect to the server.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Asks the proxy at the other end of the socket to connect to the server.
///
/// # Errors
/// [`ConnectError`] by the proxy's answer.
pub async fn open(
    proxy: &Proxy,
    endpoint: &Endpoint,
    socket: Box<dyn Socket>,
) -> Result<Box<dyn Socket>, ConnectError> {
    let (captured, connector) = capturing_connector(socket);
    // Some proxies reject requests without a `User-Agent`.
    let agent = HeaderValue::from_static(super::USER_AGENT);
    let headers = HeaderMap::from_iter([(USER_AGENT, agent)]);
    let mut tunnel = Tunnel::new(proxy.uri().clone(), connector).with_headers(headers);
    if let Some(authorization) = proxy.authorization() {
        tunnel = tunnel.with_auth(authorization.clone());
    }
    let name = proxy.to_string();
    match timeout(ANSWER_TIMEOUT, tunnel.call(endpoint.uri())).await {
        Ok(Ok(opened)) => Ok(opened.into_inner().into_socket()),
        Ok(Err(_)) => Err(connect_error(proxy, endpoint, status(&captured))),
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

/// The status of an HTTP answer that starts with these bytes.
fn status(captured: &CapturedBytes) -> Option<u16> {
    let bytes = captured.bytes();
    let status = std::str::from_utf8(&bytes).ok()?.strip_prefix("HTTP/1.")?.get(2..)?;
    status.parse().ok().filter(|status| (100..600).contains(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_split_over_any_reads_is_captured_and_other_bytes_are_not() {
        let status = |pieces: &[&[u8]]| {
            let captured = CapturedBytes::default();
            pieces.iter().for_each(|piece| captured.note(piece));
            status(&captured)
        };
        assert_eq!(status(&[b"HTTP/1.1 407 Proxy Authentication Required\r\n"]), Some(407));
        assert_eq!(status(&[b"HT", b"TP/1.0 4", b"03", b" Forbidden"]), Some(403));
        for nonsense in [&b""[..], b"SSH-2.0-OpenSSH", b"HTTP/1.1", b"HTTP/1.1 x", b"\xff\xff"] {
            assert_eq!(status(&[nonsense]), None);
        }
    }
}
