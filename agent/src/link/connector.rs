//! Connects to the server: name resolution, TCP, proxy, TLS. All transports use it, so the same
//! failure has the same error for all of them.

use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::endpoint::Endpoint;
use super::path_limits::PathLimits;
use super::progress::Progress;
use super::proxy::Proxy;
use super::socket::{self, MeteredStream, Socket, resolve};
use super::tls::TlsSetup;
use super::{Authorities, ConnectError, LinkError, socks, tunnel};
use crate::identity::client_certificate::ClientCertificate;
use crate::storage::layout::StateDir;

/// The server's address and how to connect to it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Connector {
    pub endpoint: Endpoint,
    pub proxy: Option<Proxy>,
    /// Present if the server or the proxy uses TLS.
    pub tls: Option<TlsSetup>,
    pub limits: PathLimits,
}

impl Connector {
    /// Prepares connections; reads the host's certificates if TLS is needed.
    ///
    /// # Errors
    /// [`LinkError::Broken`] if TLS is needed and no certificate authority is trusted.
    pub fn new(
        endpoint: Endpoint,
        proxy: Option<Proxy>,
        authorities: &Authorities,
    ) -> Result<Self, LinkError> {
        let is_tls_needed = endpoint.is_secure || proxy.as_ref().is_some_and(Proxy::is_secure);
        let tls = is_tls_needed.then(|| TlsSetup::new(authorities)).transpose()?;
        Ok(Self { endpoint, proxy, tls, limits: PathLimits::default() })
    }

    /// Shows a certificate to the server, if it uses TLS.
    pub fn show(&mut self, certificate: &ClientCertificate) {
        if let Some(tls) = self.tls.as_mut().filter(|_| self.endpoint.is_secure) {
            tls.show(certificate);
        }
    }

    /// Shows the certificate of this state directory, if there is one that this user may read.
    pub fn show_stored(&mut self, state: &StateDir) {
        if let Some(certificate) = ClientCertificate::stored(state) {
            self.show(&certificate);
        }
    }

    /// Host and port of the first TCP connection: the proxy, or the server.
    pub fn first_address(&self) -> (&str, u16) {
        match &self.proxy {
            Some(proxy) => (proxy.bare_host(), proxy.port()),
            None => (self.endpoint.bare_host(), self.endpoint.port),
        }
    }

    /// Connects to the server's HTTP port, through the proxy and with TLS as configured.
    ///
    /// # Errors
    /// [`LinkError`] that names the step that failed. The caller sets the timeout.
    pub async fn connect(&self) -> Result<Box<dyn Socket>, LinkError> {
        self.connect_metered(&Progress::default()).await
    }

    /// [`Connector::connect`]; the connection notes its progress.
    ///
    /// # Errors
    /// As [`Connector::connect`].
    pub async fn connect_metered(&self, progress: &Progress) -> Result<Box<dyn Socket>, LinkError> {
        let socket = self.connect_tcp_metered(progress).await?;
        Ok(match self.endpoint.is_secure {
            true => Box::new(self.tls_handshake(socket).await?),
            false => socket,
        })
    }

    /// Connects to the server's port, through the proxy if there is one, before TLS.
    ///
    /// # Errors
    /// [`LinkError::Blocked`] in nearly all cases.
    pub async fn connect_tcp(&self) -> Result<Box<dyn Socket>, LinkError> {
        self.connect_tcp_metered(&Progress::default()).await
    }

    async fn connect_tcp_metered(&self, progress: &Progress) -> Result<Box<dyn Socket>, LinkError> {
        let (host, port) = self.first_address();
        let stream = MeteredStream::new(self.connect_to(host, port).await?, progress.clone());
        let Some(proxy) = &self.proxy else { return Ok(Box::new(stream)) };
        let socket: Box<dyn Socket> = match &self.tls {
            Some(tls) if proxy.is_secure() => Box::new(tls.tls_handshake(host, stream).await?),
            _ => Box::new(stream),
        };
        Ok(match proxy.is_socks() {
            true => socks::open(proxy, &self.endpoint, socket).await?,
            false => tunnel::open(proxy, &self.endpoint, socket).await?,
        })
    }

    /// Performs the TLS handshake with the server.
    ///
    /// # Errors
    /// As [`TlsSetup::tls_handshake`].
    pub async fn tls_handshake<S: Socket>(&self, socket: S) -> Result<TlsStream<S>, LinkError> {
        let missing = || LinkError::broken("set up TLS")("TLS was not prepared");
        let tls = self.tls.as_ref().ok_or_else(missing)?;
        tls.tls_handshake_with_server(self.endpoint.bare_host(), socket).await
    }

    async fn connect_to(&self, host: &str, port: u16) -> Result<TcpStream, ConnectError> {
        let addresses = resolve(host, port).await.map_err(|source| match &self.proxy {
            Some(proxy) => ConnectError::ProxyUnresolved { proxy: proxy.to_string(), source },
            None => ConnectError::Unresolved { host: host.to_owned(), source },
        })?;
        let uri = match &self.proxy {
            Some(proxy) => proxy.uri().clone(),
            None => self.endpoint.uri(),
        };
        socket::connect(uri, addresses).await.map_err(|source| match &self.proxy {
            Some(proxy) => ConnectError::ProxyUnreached { proxy: proxy.to_string(), source },
            None => ConnectError::Unreached { address: self.endpoint.authority(), source },
        })
    }
}
