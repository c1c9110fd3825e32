//! A certificate and key for this machine, for measurements over TLS.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// The files. The certificate is self-signed.
#[derive(Debug, Clone)]
pub struct TlsCertificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl TlsCertificate {
    /// Creates a certificate (ECDSA on P-256) in this folder.
    pub fn make(folder: &Path) -> Result<Self> {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names)?;
        let pair = Self { certificate: folder.join("tls.crt"), key: folder.join("tls.key") };
        std::fs::write(&pair.certificate, cert.pem())?;
        std::fs::write(&pair.key, signing_key.serialize_pem())?;
        Ok(pair)
    }

    /// A server configuration with this certificate and session tickets.
    pub fn server(&self) -> Result<Arc<ServerConfig>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = CertificateDer::pem_file_iter(&self.certificate)?.collect::<Result<_, _>>()?;
        let key = PrivateKeyDer::from_pem_file(&self.key)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.ticketer = rustls::crypto::ring::Ticketer::new()?;
        Ok(Arc::new(config))
    }
}

/// A client configuration that trusts only the certificates in this file.
pub fn trusting(file: &Path) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).context("read the authority")? {
        roots.add(certificate?)?;
    }
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// As [`trusting`], and shows a certificate (base64) with its Ed25519 key (PKCS #8).
pub fn showing(file: &Path, certificate: &str, key: &[u8]) -> Result<ClientConfig> {
    let pem = format!("-----BEGIN CERTIFICATE-----\n{certificate}\n-----END CERTIFICATE-----\n");
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).context("read it")?;
    let key = PrivateKeyDer::Pkcs8(key.to_vec().into());
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_file_iter(file).context("read the authority")? {
        roots.add(authority?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], key)?;
    Ok(config)
}
