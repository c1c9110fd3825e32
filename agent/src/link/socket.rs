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

/// For a connection, over all addresses of a name.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What bytes go over, whatever is beneath.
pub trait Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Socket for T {}

/// Every address of a name, or the one that it is.
///
/// # Errors
/// Whatever the host's resolver says, and if there is none.
pub async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let addresses: Vec<_> = tokio::net::lookup_host((host, port)).await?.collect();
    match addresses.is_empty() {
        true => Err(io::Error::other("the name is known but has no address")),
        false => Ok(addresses),
    }
}

/// Connects to one of the addresses. A family that does not answer holds nobody up: the other one
/// is tried soon beside it.
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

/// What the system said, out of what was made of it.
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
