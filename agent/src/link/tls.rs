//! TLS: trusts the host's certificate store and the operator's authorities, through rustls and
//! ring.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{ConnectError, LinkError, Socket};
use crate::identity::client_certificate::ClientCertificate;

/// Certificate authorities that are trusted in addition to the host's store.
#[derive(Debug, Clone, Default)]
pub struct Authorities {
    certificates: Arc<[CertificateDer<'static>]>,
    /// The file that they were read from; absent if there are none.
    path: Option<PathBuf>,
}

/// Why a file of certificate authorities can't be used. The messages say what to do.
#[derive(Debug, thiserror::Error)]
pub enum AuthoritiesError {
    #[error("failed to read the CA file {}: {source}; check MUSTER_CA_FILE or --ca-file", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "the CA file {} contains no certificate; add the authority's certificate as PEM, from BEGIN CERTIFICATE to END CERTIFICATE",
        path.display()
    )]
    Empty { path: PathBuf },
    #[error(
        "certificate {number} in the CA file {} is damaged or does not belong to an authority; export it again as PEM",
        path.display()
    )]
    Damaged { path: PathBuf, number: usize },
}

impl Authorities {
    /// Reads a PEM file with certificates.
    ///
    /// # Errors
    /// [`AuthoritiesError`] if it contains no certificate or one that can't be used.
    pub fn read(path: &Path) -> Result<Self, AuthoritiesError> {
        let path = path.to_owned();
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(source) => return Err(AuthoritiesError::Unreadable { path, source }),
        };
        let mut store = RootCertStore::empty();
        let mut certificates = Vec::new();
        for read in CertificateDer::pem_slice_iter(&bytes) {
            let number = certificates.len() + 1;
            let Ok(certificate) = read else {
                return Err(AuthoritiesError::Damaged { path, number });
            };
            if store.add(certificate.clone()).is_err() {
                return Err(AuthoritiesError::Damaged { path, number });
            }
            certificates.push(certificate);
        }
        if certificates.is_empty() {
            return Err(AuthoritiesError::Empty { path });
        }
        Ok(Self { certificates: certificates.into(), path: Some(path) })
    }

    /// Reads the file again. If it can't be used any more, the current certificates stay in use.
    pub fn reload(&self) -> Self {
        let Some(path) = &self.path else { return self.clone() };
        Self::read(path).unwrap_or_else(|error| {
            tracing::warn!("{error}; the current certificates stay in use");
            self.clone()
        })
    }
}

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
        let extra = authorities.certificates.iter().cloned();
        let verifier = Verifier::new_with_extra_roots(extra, provider);
        let verifier = Arc::new(verifier.map_err(LinkError::broken(broken))?);
        let config = builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as _)
            .with_no_client_auth();
        let config = Arc::new(config);
        Ok(Self { server_config: Arc::clone(&config), config, verifier })
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
    /// [`LinkError::Blocked`] if the certificate is refused, [`LinkError::Broken`] otherwise.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_file_without_a_usable_certificate_is_rejected_with_a_hint() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("ca.pem");
        let refusal = || Authorities::read(&path).expect_err("refused").to_string();
        assert!(refusal().contains("MUSTER_CA_FILE"), "{}", refusal());
        for empty in
            ["", "no certificate", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
        {
            std::fs::write(&path, empty).expect("written");
            assert!(refusal().contains("contains no certificate"), "{}", refusal());
        }
        let pem = |body: &str| {
            format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
        };
        for damaged in [pem("AAAA"), pem("***"), "-----BEGIN CERTIFICATE-----\nAAAA\n".into()] {
            std::fs::write(&path, damaged).expect("written");
            assert!(
                refusal().contains("certificate 1 in the CA file")
                    && refusal().contains("is damaged"),
                "{}",
                refusal()
            );
        }
    }
}
