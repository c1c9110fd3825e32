//! A certificate and its key, read from files and checked against each other.

use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ring::digest::{Context, SHA256};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::ring as provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::{NoServerSessionStorage, ParsedCertificate};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig};

use super::client_verifier::{ClientVerifier, ClientVerifierError};
use crate::domain::time::Timestamp;
use crate::services::certificates::authority::{AuthorityError, IssuedCertificate};

/// Checks the certificates of clients.
pub(super) type Clients = Arc<ClientVerifier>;

/// Where they lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM: the server's own certificate, then those between it and the root.
    pub certificate: PathBuf,
    /// PEM: the private key, without a passphrase.
    pub key: PathBuf,
}

/// Why a certificate and its key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("failed to read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "{} contains no certificate; it must be PEM, with the server's own certificate first and \
         its issuers after it", path.display()
    )]
    NoCertificate { path: PathBuf },
    #[error(
        "{} contains no private key; it must be PEM, without a passphrase", path.display()
    )]
    NoKey { path: PathBuf },
    #[error(
        "the key {} does not belong to the certificate {}; use the key that the certificate was \
         made for", key.display(), certificate.display()
    )]
    Mismatch { certificate: PathBuf, key: PathBuf },
    #[error("the certificate {} cannot be used: {source}", path.display())]
    Unusable { path: PathBuf, source: rustls::Error },
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    #[error("the server cannot issue its certificate")]
    Issue(#[from] AuthorityError),
    #[error(transparent)]
    Clients(#[from] ClientVerifierError),
}

/// What the files held when they were read.
#[derive(Debug)]
pub(super) struct Pair {
    pub settings: Arc<ServerConfig>,
    /// When the server's own certificate ends.
    pub expires_at: Option<Timestamp>,
    /// Shows whether the files have changed since they were read.
    pub digest: [u8; 32],
}

/// Identity, size and times of both files. Links are followed, because renewals replace them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileStamps([Option<[i64; 5]>; 2]);

impl TlsFiles {
    /// Reads both, checks that they belong together, and creates the settings: TLS 1.2 and 1.3, HTTP/2 and
    /// HTTP/1.1, tickets that resume a session without memory on this side.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub(super) fn read(&self, clients: Option<&Clients>) -> Result<Pair, CertificateError> {
        let (certificate, key) = (read(&self.certificate)?, read(&self.key)?);
        let mut digest = Context::new(&SHA256);
        digest.update(&certificate);
        digest.update(&key);
        let digest = digest.finish().as_ref().try_into().unwrap_or_default();
        let certified = self.certified(&certificate, &key)?;
        let expires_at = certified.cert.first().and_then(expiry);
        let settings = Arc::new(settings(certified, clients)?);
        Ok(Pair { settings, expires_at, digest })
    }

    /// The stamps of now. They show a change without reading the files.
    pub(super) fn stamps(&self) -> FileStamps {
        let stamp = |path: &Path| {
            let seen = std::fs::metadata(path).ok()?;
            let times = [seen.mtime(), seen.mtime_nsec()];
            Some([
                seen.ino().cast_signed(),
                seen.size().cast_signed(),
                times[0],
                times[1],
                seen.ctime(),
            ])
        };
        FileStamps([stamp(&self.certificate), stamp(&self.key)])
    }

    /// True if every user of this machine may read the key.
    pub(super) fn is_key_open(&self) -> bool {
        std::fs::metadata(&self.key).is_ok_and(|seen| seen.permissions().mode() & 0o007 != 0)
    }

    fn certified(&self, certificate: &[u8], key: &[u8]) -> Result<CertifiedKey, CertificateError> {
        let path = self.certificate.clone();
        let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate)
            .collect::<Result<_, _>>()
            .map_err(|_| CertificateError::NoCertificate { path: path.clone() })?;
        if chain.is_empty() {
            return Err(CertificateError::NoCertificate { path });
        }
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|_| CertificateError::NoKey { path: self.key.clone() })?;
        CertifiedKey::from_der(chain, key, &provider::default_provider()).map_err(|source| {
            match source {
                rustls::Error::InconsistentKeys(_) => CertificateError::Mismatch {
                    certificate: self.certificate.clone(),
                    key: self.key.clone(),
                },
                rustls::Error::General(_) => CertificateError::NoKey { path: self.key.clone() },
                source => CertificateError::Unusable { path, source },
            }
        })
    }
}

/// The settings for a certificate that the server has issued to itself.
///
/// # Errors
/// [`CertificateError::Tls`]
pub(super) fn issued(
    issued: &IssuedCertificate,
    clients: Option<&Clients>,
) -> Result<Arc<ServerConfig>, CertificateError> {
    let proof = issued.proof.iter();
    let chain = std::iter::once(&issued.certificate).chain(proof);
    let chain = chain.map(|certificate| CertificateDer::from(certificate.clone())).collect();
    let key = PrivatePkcs8KeyDer::from(issued.key.to_vec());
    let certified = CertifiedKey::from_der(chain, key.into(), &provider::default_provider())?;
    Ok(Arc::new(settings(certified, clients)?))
}

fn settings(
    certified: CertifiedKey,
    clients: Option<&Clients>,
) -> Result<ServerConfig, CertificateError> {
    let builder = ServerConfig::builder_with_provider(Arc::new(provider::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(Arc::clone(clients) as _),
        None => builder.with_no_client_auth(),
    };
    let mut settings = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    settings.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // A new pair comes with new tickets: nothing rests on a key that was replaced.
    settings.ticketer = provider::Ticketer::new()?;
    settings.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(settings)
}

/// When a certificate ends. The check of a chain reports it if it is asked about a time long after it.
fn expiry(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    let far = UnixTime::since_unix_epoch(Duration::from_secs(u64::from(u32::MAX) * 64));
    let checked = verify_server_cert_signed_by_trust_anchor(
        &ParsedCertificate::try_from(certificate).ok()?,
        &RootCertStore::empty(),
        &[],
        far,
        provider::default_provider().signature_verification_algorithms.all,
    );
    match checked {
        Err(rustls::Error::InvalidCertificate(rustls::CertificateError::ExpiredContext {
            not_after,
            ..
        })) => Some(Timestamp(i64::try_from(not_after.as_secs()).ok()?.checked_mul(1_000)?)),
        _ => None,
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    std::fs::read(path).map_err(|source| CertificateError::Read { path: path.to_owned(), source })
}
