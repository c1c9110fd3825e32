//! A TLS terminator in front of a server without TLS, such as a proxy.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::servers::authority::{Certificate, connect};

/// A listening address that ends TLS and forwards the plain bytes.
#[derive(Debug)]
pub struct TlsTerminator {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl TlsTerminator {
    /// Starts a terminator in front of `inner` (`HOST:PORT`).
    pub async fn before(inner: &str, certificate: &Certificate) -> Self {
        Self::start(inner, certificate, None).await
    }

    /// The same in front of a server with TLS, which it connects to as this client.
    pub async fn before_tls(
        inner: &str,
        certificate: &Certificate,
        client: Arc<ClientConfig>,
    ) -> Self {
        Self::start(inner, certificate, Some(client)).await
    }

    async fn start(
        inner: &str,
        certificate: &Certificate,
        client: Option<Arc<ClientConfig>>,
    ) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let chain = CertificateDer::pem_file_iter(&certificate.chain).expect("read the chain");
        let chain = chain.collect::<Result<Vec<_>, _>>().expect("certificates");
        let key = PrivateKeyDer::from_pem_file(&certificate.key).expect("read the key");
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
        let acceptor = TlsAcceptor::from(Arc::new(config.expect("a fitting key")));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let address = listener.local_addr().expect("a bound address");
        let (inner, inside) = (inner.to_owned(), client);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (acceptor, inner, inside) = (acceptor.clone(), inner.clone(), inside.clone());
                tokio::spawn(forward(acceptor, client, inner, inside));
            }
        });
        Self { address, accepting }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for TlsTerminator {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// When one side ends for any reason, the other side is closed too.
async fn forward(
    acceptor: TlsAcceptor,
    client: TcpStream,
    inner: String,
    tls: Option<Arc<ClientConfig>>,
) -> std::io::Result<()> {
    let mut outside = acceptor.accept(client).await?;
    match tls {
        None => {
            let mut inside = TcpStream::connect(inner).await?;
            tokio::io::copy_bidirectional(&mut outside, &mut inside).await?;
        }
        Some(tls) => {
            let mut inside = connect(tls, &inner).await;
            tokio::io::copy_bidirectional(&mut outside, &mut inside).await?;
        }
    }
    Ok(())
}
