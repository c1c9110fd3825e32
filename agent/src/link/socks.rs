//! Opens a connection through a SOCKS5 proxy. The HTTP library performs the handshake but does not report
//! why it failed, so this module reads the reason from the captured bytes.

use std::io;

use hyper_util::client::legacy::connect::proxy::SocksV5;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::http::Uri;
use tower::Service as _;

use super::ConnectError;
use super::captured_bytes::capturing_connector;
use super::endpoint::Endpoint;
use super::proxy::Proxy;
use super::socket::{Socket, resolve};
use super::tunnel::ANSWER_TIMEOUT;

/// Why a SOCKS proxy does not connect to the server.
#[derive(Debug, thiserror::Error)]
pub enum SocksError {
    #[error("failed to resolve the name {host} for the proxy {proxy}: {source}")]
    Unresolved {
        host: String,
        proxy: String,
        #[source]
        source: io::Error,
    },
    #[error("the proxy {proxy} requires a user name and password")]
    CredentialsMissing { proxy: String },
    #[error("the proxy {proxy} rejects the user name and password")]
    CredentialsWrong { proxy: String },
    #[error("the proxy {proxy} does not accept user names and passwords")]
    CredentialsUnsupported { proxy: String },
    #[error("the proxy {proxy} forbids connections to {target}")]
    Forbids { proxy: String, target: String },
    #[error("the proxy {proxy} failed to connect to {target}: {reason}")]
    Refused { proxy: String, target: String, reason: &'static str },
    #[error("the proxy {proxy} closed the connection without an answer")]
    Closed { proxy: String },
    #[error("the answer from {proxy} is not from a SOCKS5 proxy")]
    NotSocks { proxy: String },
}

impl SocksError {
    /// What to do about the error.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unresolved { .. } => {
                "write the proxy's address as socks5h://, so that the proxy resolves the name, or check this host's DNS"
            }
            Self::CredentialsMissing { .. } => {
                "add them to the proxy's address: socks5h://USER:PASSWORD@HOST:PORT, special characters as %XX"
            }
            Self::CredentialsWrong { .. } => {
                "correct them in the proxy's address: socks5h://USER:PASSWORD@HOST:PORT, special characters as %XX"
            }
            Self::CredentialsUnsupported { .. } => {
                "remove user name and password from the proxy's address, or permit them on the proxy"
            }
            Self::Forbids { .. } => {
                "permit connections to the server on the proxy, or exempt the server in NO_PROXY"
            }
            Self::Refused { .. } => {
                "check that the proxy can connect to the server, or exempt the server in NO_PROXY; with socks5h:// the proxy resolves the server's name"
            }
            Self::Closed { .. } => {
                "check that it is a SOCKS5 proxy and permits connections from this host"
            }
            Self::NotSocks { .. } => {
                "check the address and scheme (http://, https://, socks5:// or socks5h://) of the proxy in HTTPS_PROXY, HTTP_PROXY or ALL_PROXY"
            }
        }
    }
}

/// Asks the proxy at the other end of the socket to connect to the server.
///
/// # Errors
/// [`ConnectError`] by the proxy's answer.
pub async fn open(
    proxy: &Proxy,
    endpoint: &Endpoint,
    socket: Box<dyn Socket>,
) -> Result<Box<dyn Socket>, ConnectError> {
    let target = target(proxy, endpoint).await?;
    let (captured, connector) = capturing_connector(socket);
    let mut handshake = SocksV5::new(proxy.uri().clone(), connector);
    if let Some((user, password)) = proxy.login() {
        handshake = handshake.with_auth(user.to_owned(), password.to_owned());
    }
    let proxy_name = proxy.to_string();
    match timeout(ANSWER_TIMEOUT, handshake.call(target)).await {
        Ok(Ok(opened)) => Ok(opened.into_inner().into_socket()),
        Ok(Err(_)) => {
            let has_login = proxy.login().is_some();
            Err(reason(&captured.bytes(), has_login, proxy_name, endpoint.authority()).into())
        }
        Err(_) => {
            let seconds = ANSWER_TIMEOUT.as_secs();
            Err(ConnectError::ProxySilent { proxy: proxy_name, seconds })
        }
    }
}

/// The address that the proxy gets: a name if it resolves names, otherwise an address. As curl does, only the
/// first address is tried. The library would block the thread if it resolved the name.
async fn target(proxy: &Proxy, endpoint: &Endpoint) -> Result<Uri, SocksError> {
    let authority = if proxy.resolves_names() {
        endpoint.authority()
    } else {
        let (host, port) = (endpoint.bare_host(), endpoint.port);
        let unresolved = |source| {
            let (host, proxy) = (host.to_owned(), proxy.to_string());
            SocksError::Unresolved { host, proxy, source }
        };
        let addresses = resolve(host, port).await.map_err(unresolved)?;
        addresses.first().map_or_else(|| endpoint.authority(), ToString::to_string)
    };
    // Every host that is valid in a URL is valid in a URI. The library needs the port.
    let uri = Uri::builder().scheme("https").authority(authority).path_and_query("/").build();
    Ok(uri.unwrap_or_default())
}

/// The reason for a failure, by what the proxy sent: the method, the answer to the login, the answer to the
/// request.
fn reason(sent: &[u8], has_login: bool, proxy: String, target: String) -> SocksError {
    const VERSION: u8 = 5;
    const LOGIN_VERSION: u8 = 1;
    let answer = match (sent, has_login) {
        ([VERSION, 0xff, ..], false) => return SocksError::CredentialsMissing { proxy },
        ([VERSION, 0xff | 0x00, ..], true) => return SocksError::CredentialsUnsupported { proxy },
        ([VERSION, 0x00, answer @ ..], false) => answer,
        ([VERSION, 0x02, LOGIN_VERSION, 0x00, answer @ ..], true) => answer,
        ([VERSION, 0x02, LOGIN_VERSION, _, ..], true) => {
            return SocksError::CredentialsWrong { proxy };
        }
        ([] | [VERSION] | [VERSION, 0x02] | [VERSION, 0x02, LOGIN_VERSION], _) => &[],
        _ => return SocksError::NotSocks { proxy },
    };
    let reason = match answer {
        [] | [VERSION] => return SocksError::Closed { proxy },
        [VERSION, 0x02, ..] => return SocksError::Forbids { proxy, target },
        [VERSION, 0x03, ..] => "its network is unreachable",
        [VERSION, 0x04, ..] => "the host is unreachable, or its name unknown",
        [VERSION, 0x05, ..] => "the connection was refused",
        [VERSION, 0x06, ..] => "the way there is too long (TTL expired)",
        [VERSION, 0x08, ..] => "it does not support this kind of address",
        [VERSION, ..] => "it gives no reason",
        _ => return SocksError::NotSocks { proxy },
    };
    SocksError::Refused { proxy, target, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(sent: &[u8], has_login: bool) -> String {
        reason(sent, has_login, "P".into(), "T".into()).to_string()
    }

    #[test]
    fn each_answer_of_a_proxy_has_its_reason() {
        for (sent, has_login, expected) in [
            (&[5, 0xff][..], false, "the proxy P requires a user name and password"),
            (&[5, 0xff], true, "the proxy P does not accept user names and passwords"),
            (&[5, 0], true, "the proxy P does not accept user names and passwords"),
            (&[5, 2, 1, 1], true, "the proxy P rejects the user name and password"),
            (&[5, 0, 5, 2, 0, 1], false, "the proxy P forbids connections to T"),
            (&[5, 2, 1, 0, 5, 2], true, "the proxy P forbids connections to T"),
            (
                &[5, 0, 5, 5],
                false,
                "the proxy P failed to connect to T: the connection was refused",
            ),
            (&[5, 0, 5, 99], false, "the proxy P failed to connect to T: it gives no reason"),
            (b"", false, "the proxy P closed the connection without an answer"),
            (&[5, 2], true, "the proxy P closed the connection without an answer"),
            (&[5, 0], false, "the proxy P closed the connection without an answer"),
            (b"HTTP/1.1 400", false, "the answer from P is not from a SOCKS5 proxy"),
            (&[4, 90], false, "the answer from P is not from a SOCKS5 proxy"),
            (&[5, 2, 7], true, "the answer from P is not from a SOCKS5 proxy"),
        ] {
            assert_eq!(text(sent, has_login), expected, "{sent:?} {has_login}");
        }
    }
}
