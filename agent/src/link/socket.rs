//! Byte streams: name resolution and TCP connections.

use std::convert::Infallible;
use std::future::ready;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::http::Uri;
use tower::{Service as _, service_fn};

/// Time limit for a connection, over all addresses of a name.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

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
