//! Certificates that clients show. The handshake asks for one, requires none and accepts any whose key the
//! client proves to have; what it is worth is checked afterwards, so that a client with an expired one can still
//! get another one.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::ring as provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};

use crate::domain::certificates::client_certificate::{KeyHash, PeerCertificate};
use crate::domain::time::{Clock, Timestamp};

/// Why certificates of clients can't be checked.
#[derive(Debug, thiserror::Error)]
pub enum ClientVerifierError {
    #[error("the certificate of the server's authority is damaged")]
    Damaged,
    #[error("the certificate of the server's authority can't be trusted: {0}")]
    Untrusted(#[from] rustls::Error),
    #[error("certificates of clients can't be checked: {0}")]
    Unusable(VerifierBuilderError),
}

/// Asks clients for certificates of the server's authority, and checks them.
#[derive(Debug)]
pub struct ClientVerifier {
    authority: Arc<dyn ClientCertVerifier>,
    clock: Clock,
}

impl ClientVerifier {
    /// For the certificates of these authorities, in PEM.
    ///
    /// # Errors
    /// [`ClientVerifierError`]
    pub fn new(authorities: &str, clock: Clock) -> Result<Self, ClientVerifierError> {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
            roots.add(root.map_err(|_| ClientVerifierError::Damaged)?)?;
        }
        let provider = Arc::new(provider::default_provider());
        let authority = WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
            .build()
            .map_err(ClientVerifierError::Unusable)?;
        Ok(Self { authority, clock })
    }

    /// What the chain is worth that a client has shown in its handshake. Also after a session of TLS was
    /// resumed, because the time has gone on.
    pub(super) fn check(&self, chain: Option<&[CertificateDer<'_>]>) -> PeerCertificate {
        let Some((certificate, rest)) = chain.and_then(<[_]>::split_first) else {
            return PeerCertificate::Absent;
        };
        let since_epoch = Duration::from_millis(self.clock.now().ms_since(Timestamp(0)));
        let now = UnixTime::since_unix_epoch(since_epoch);
        if let Err(error) = self.authority.verify_client_cert(certificate, rest, now) {
            tracing::debug!(%error, "a client showed a certificate that is not valid");
            return PeerCertificate::Invalid;
        }
        match ParsedCertificate::try_from(certificate) {
            Ok(parsed) => {
                PeerCertificate::Valid(KeyHash::of_key_info(&parsed.subject_public_key_info()))
            }
            Err(_) => PeerCertificate::Invalid,
        }
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// Browsers ask their user only if they have a certificate of this authority.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.authority.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _rest: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        // See [`Self::check`].
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authority.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authority.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authority.supported_verify_schemes()
    }
}
