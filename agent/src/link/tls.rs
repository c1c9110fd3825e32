//! TLS: trusts the host's certificate store and the operator's authorities, through rustls and
//! ring.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_platform_verifier::Verifier;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::authorities::Authorities;
use super::{ConnectError, LinkError, Socket};
use crate::identity::client_certificate::ClientCertificate;

/// The TLS configuration, created once and only if needed.
#[derive(Debug, Clone)]
pub struct TlsSetup {
    config: Arc<ClientConfig>,
    /// For the server, which is shown the certificate of this agent. A proxy is not.
    server_config: Arc<ClientConfig>,
    verifier: Arc<Verifier>,
}

impl TlsSetup {
    /// Trusts the host's certificate store and these authorities.
    ///
    /// # Errors
    /// [`LinkError::Broken`] if no authority is trusted at all.
    pub fn new(authorities: &Authorities) -> Result<Self, LinkError> {
        let broken = "set up TLS";
        let builder = ClientConfig::builder();
        let provider = Arc::clone(builder.crypto_provider());
        let extra = authorities.trusted().into_iter();
        let verifier = Verifier::new_with_extra_roots(extra, provider);
        let verifier = Arc::new(verifier.map_err(LinkError::broken(broken))?);
        let config = builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as _)
            .with_no_client_auth();
        let config = Arc::new(config);
        Ok(Self { server_config: Arc::clone(&config), config, verifier })
    }

    /// As this one, but checks certificates as if it were `at`, in seconds since 1970: only to compare clocks.
    pub(super) fn at(&self, at: u64) -> Self {
        let at = UnixTime::since_unix_epoch(Duration::from_secs(at));
        let verifier = FixedTime { verifier: Arc::clone(&self.verifier), at };
        let config = ClientConfig::builder()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Self { server_config: Arc::new(config), ..self.clone() }
    }

    /// Shows a certificate to the server. Starts without TLS sessions to resume, because these keep the
    /// certificate that they began with.
    pub fn show(&mut self, certificate: &ClientCertificate) {
        let key = SingleCertAndKey::from(certificate.certified_key());
        let config = ClientConfig::builder()
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&self.verifier) as _)
            .with_client_cert_resolver(Arc::new(key));
        self.server_config = Arc::new(config);
    }

    /// [`Self::tls_handshake`] with the server itself.
    ///
    /// # Errors
    /// As [`Self::tls_handshake`].
    pub async fn tls_handshake_with_server<S: Socket>(
        &self,
        host: &str,
        socket: S,
    ) -> Result<TlsStream<S>, LinkError> {
        handshake(Arc::clone(&self.server_config), host, socket).await
    }

    /// Performs the TLS handshake; the certificate must be valid for `host`.
    ///
    /// # Errors
    /// [`LinkError::Blocked`] if the certificate is refused or the answer is no TLS, [`LinkError::Broken`] otherwise.
    pub async fn tls_handshake<S: Socket>(
        &self,
        host: &str,
        socket: S,
    ) -> Result<TlsStream<S>, LinkError> {
        handshake(Arc::clone(&self.config), host, socket).await
    }

    /// Expiry of the certificate of `host`, in seconds since 1970.
    pub fn expiry<S>(&self, host: &str, stream: &TlsStream<S>) -> Option<u64> {
        let (_, session) = stream.get_ref();
        let (leaf, chain) = session.peer_certificates()?.split_first()?;
        // The verifier reports the expiry of a certificate if it is asked about a time long after
        // it.
        let far = UnixTime::since_unix_epoch(Duration::from_secs(u64::from(u32::MAX) * 64));
        let judged =
            self.verifier.verify_server_cert(leaf, chain, &server_name(host).ok()?, &[], far);
        match judged {
            Err(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext {
                not_after,
                ..
            })) => Some(not_after.as_secs()),
            _ => None,
        }
    }

    pub(super) fn client_config(&self) -> ClientConfig {
        (*self.server_config).clone()
    }
}

/// Checks everything about a certificate but whether it is valid now.
#[derive(Debug)]
struct FixedTime {
    verifier: Arc<Verifier>,
    at: UnixTime,
}

impl ServerCertVerifier for FixedTime {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verifier.verify_server_cert(certificate, between, name, ocsp, self.at)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

async fn handshake<S: Socket>(
    config: Arc<ClientConfig>,
    host: &str,
    socket: S,
) -> Result<TlsStream<S>, LinkError> {
    let secured = TlsConnector::from(config).connect(server_name(host)?, socket).await;
    secured.map_err(|error| {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls.and_then(|tls| ConnectError::from_tls(tls, host)) {
            Some(error) => LinkError::Blocked(error),
            None => LinkError::broken("complete the TLS handshake with the server")(error),
        }
    })
}

fn server_name(host: &str) -> Result<ServerName<'static>, LinkError> {
    ServerName::try_from(host.to_owned()).map_err(LinkError::broken("parse the server's name"))
}
