//! The way to the server, hop by hop: name, connection, proxy, TLS. Every transport goes it, and
//! what stands in it has the same name for all of them.

use std::convert::Infallible;
use std::future::ready;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::http::Uri;
use tower::{Service as _, service_fn};

use super::endpoint::Endpoint;
use super::proxy::Proxy;
use super::tls::{Authorities, TlsSetup};
use super::{LinkError, Obstacle, tunnel};

/// For a connection, over all addresses of a name.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What bytes go over, whatever is beneath.
pub trait Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Socket for T {}

/// Where the server is and how it is reached. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Way {
    pub endpoint: Endpoint,
    pub proxy: Option<Proxy>,
    /// Present if the server or the proxy wants it.
    pub tls: Option<TlsSetup>,
}

impl Way {
    /// Prepares the way; reads the host's certificates if there is need.
    ///
    /// # Errors
    /// [`LinkError::Broken`] if TLS is needed and there is nobody to trust.
    pub fn new(
        endpoint: Endpoint,
        proxy: Option<Proxy>,
        authorities: &Authorities,
    ) -> Result<Self, LinkError> {
        let is_tls_needed = endpoint.is_secure || proxy.as_ref().is_some_and(Proxy::is_secure);
        let tls = is_tls_needed.then(|| TlsSetup::new(authorities)).transpose()?;
        Ok(Self { endpoint, proxy, tls })
    }

    /// Host and port of the first hop: the proxy, or the server.
    pub fn first_hop(&self) -> (&str, u16) {
        match &self.proxy {
            Some(proxy) => (proxy.bare_host(), proxy.port()),
            None => (self.endpoint.bare_host(), self.endpoint.port),
        }
    }

    /// Goes all the way: what is written to the socket reaches the server's HTTP.
    ///
    /// # Errors
    /// [`LinkError`] that says where the way ends. Bounded by the caller.
    pub async fn open(&self) -> Result<Box<dyn Socket>, LinkError> {
        let socket = self.reach().await?;
        Ok(match self.endpoint.is_secure {
            true => Box::new(self.secure(socket).await?),
            false => socket,
        })
    }

    /// Goes as far as the server's port, before TLS.
    ///
    /// # Errors
    /// [`LinkError::Blocked`] in nearly all cases.
    pub async fn reach(&self) -> Result<Box<dyn Socket>, LinkError> {
        let (host, port) = self.first_hop();
        let stream = self.connect(host, port).await?;
        let Some(proxy) = &self.proxy else { return Ok(Box::new(stream)) };
        let socket: Box<dyn Socket> = match &self.tls {
            Some(tls) if proxy.is_secure() => Box::new(tls.secure(host, stream).await?),
            _ => Box::new(stream),
        };
        Ok(tunnel::open(proxy, &self.endpoint, socket).await?)
    }

    /// Agrees on TLS with the server.
    ///
    /// # Errors
    /// As [`TlsSetup::secure`].
    pub async fn secure<S: Socket>(&self, socket: S) -> Result<TlsStream<S>, LinkError> {
        let missing = || LinkError::broken("set up TLS")("it was not prepared");
        let tls = self.tls.as_ref().ok_or_else(missing)?;
        tls.secure(self.endpoint.bare_host(), socket).await
    }

    async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, Obstacle> {
        let addresses = resolve(host, port).await.map_err(|source| match &self.proxy {
            Some(proxy) => Obstacle::ProxyUnresolved { proxy: proxy.to_string(), source },
            None => Obstacle::Unresolved { host: host.to_owned(), source },
        })?;
        let uri = match &self.proxy {
            Some(proxy) => proxy.uri().clone(),
            None => self.endpoint.uri(),
        };
        connect(uri, addresses).await.map_err(|source| match &self.proxy {
            Some(proxy) => Obstacle::ProxyUnreached { proxy: proxy.to_string(), source },
            None => Obstacle::Unreached { address: self.endpoint.authority(), source },
        })
    }
}

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
async fn connect(uri: Uri, addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
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
