//! The certificate that the server has issued for this agent's key pair, and that the agent shows it in the
//! handshake of TLS.

use std::sync::Arc;

use data_encoding::BASE64;
use muster_protocol::identity::{AgentPublicKey, InvalidAgentKey, MAX_CERTIFICATE_BYTES};
use rustls::crypto::ring::sign::any_eddsa_type;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};

use super::key_pair::{self, KeyPairError};
use crate::storage::layout::StateDir;
use crate::storage::{self, StorageError};

/// Why a certificate can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ClientCertificateError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    KeyPair(#[from] KeyPairError),
    #[error("the certificate is damaged, too large or for another key pair")]
    Invalid,
    #[error("failed to use the key pair of this agent for TLS")]
    Key(#[from] rustls::Error),
}

/// The content of the file.
#[derive(Serialize, Deserialize)]
struct StoredCertificate {
    /// DER, base64.
    certificate: String,
}

/// A certificate with the key pair that it is for. Cheap to clone; two are the same if they come from one
/// certificate.
#[derive(Debug, Clone)]
pub struct ClientCertificate(Arc<CertifiedKey>);

impl ClientCertificate {
    /// Reads the certificate of this key pair; `None` if there is none. One that can't be used counts as none:
    /// the server issues another one.
    pub fn load(state: &StateDir, public_key: &AgentPublicKey) -> Option<Self> {
        let stored = storage::read_sealed::<StoredCertificate>(&state.client_certificate());
        let loaded = stored.map_err(ClientCertificateError::from).and_then(|stored| {
            stored.map(|stored| Self::of(&stored.certificate, state, public_key)).transpose()
        });
        loaded.unwrap_or_else(|error| {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "the stored certificate of this agent is not used");
            None
        })
    }

    /// The certificate of a state directory, for programs beside the agent; `None` if there is none that this
    /// user may read.
    pub fn stored(state: &StateDir) -> Option<Self> {
        Self::load(state, &key_pair::public_key(state)?)
    }

    /// Checks a certificate of the server, and stores it. If the disk is full, it is used until this process
    /// ends.
    ///
    /// # Errors
    /// [`ClientCertificateError`]; the certificate can't be used then.
    pub fn store(
        certificate: String,
        state: &StateDir,
        public_key: &AgentPublicKey,
    ) -> Result<Self, ClientCertificateError> {
        let new = Self::of(&certificate, state, public_key)?;
        let stored = storage::seal(&StoredCertificate { certificate });
        if let Err(error) = storage::replace_synced(&state.client_certificate(), &stored) {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "failed to store the certificate of this agent");
        }
        Ok(new)
    }

    fn of(
        certificate: &str,
        state: &StateDir,
        public_key: &AgentPublicKey,
    ) -> Result<Self, ClientCertificateError> {
        let invalid = || ClientCertificateError::Invalid;
        if certificate.len() > MAX_CERTIFICATE_BYTES {
            return Err(invalid());
        }
        let der = BASE64.decode(certificate.as_bytes()).map_err(|_| invalid())?;
        let der = CertificateDer::from(der);
        let parsed = ParsedCertificate::try_from(&der).map_err(|_| invalid())?;
        if parsed.subject_public_key_info().as_ref() != public_key.key_info() {
            return Err(invalid());
        }
        let pkcs8 = key_pair::private_key(state)?.ok_or(KeyPairError::Invalid(InvalidAgentKey))?;
        let key = any_eddsa_type(&PrivatePkcs8KeyDer::from(pkcs8.expose_secret()))?;
        Ok(Self(Arc::new(CertifiedKey::new(vec![der], key))))
    }

    /// For a handshake of TLS.
    pub fn certified_key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0)
    }

    /// True if both are the same certificate.
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.cert == other.0.cert
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// An Ed25519 key pair, PKCS #8 in base64, and a certificate that it has signed itself.
    const KEY_PAIR: &str = "MFECAQEwBQYDK2VwBCIEIMg6pT9H8pKHdvmu/p1C364J1CNupT949G31jUjvu546gSEA8UZ4/x8fWuRAnwrIIm54\
        aYbi3Re2Clit0MTbHdjnK4I=";
    const CERTIFICATE: &str = "MIIBNjCB6aADAgECAhQndT7iT/RYZHO8INBQ/+blN7ukszAFBgMrZXAwEDEOMAwGA1UEAwwFYWdlbnQwIBcNMjYx\
        MTIzMjI1NjA2WhgPMjEyNjEwMzAyMjU2MDZaMBAxDjAMBgNVBAMMBWFnZW50MCowBQYDK2VwAyEA8UZ4/x8fWuRA\
        nwrIIm54aYbi3Re2Clit0MTbHdjnK4KjUzBRMB0GA1UdDgQWBBRoinwKQtUeopcqpw4iss2QKbP1JDAfBgNVHSME\
        GDAWgBRoinwKQtUeopcqpw4iss2QKbP1JDAPBgNVHRMBAf8EBTADAQH/MAUGAytlcANBAAYECJMHkpFV9hdfoQSf\
        m6V43Y0gtEjWRgWg2p9Xry+vBeOAXyc3NHCGekLG6eGwc6HtGysnsXwBLNFlUqRWKQs=";

    #[test]
    fn only_a_certificate_of_the_own_key_pair_is_stored() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let state = StateDir::create(folder.path()).expect("state directory");
        let stored = json!({"private_key": KEY_PAIR, "machine_id": "one"});
        storage::replace_synced(&state.key_pair(), &storage::seal(&stored)).expect("stored");
        let own = key_pair::public_key(&state).expect("a key pair");
        assert!(ClientCertificate::load(&state, &own).is_none());
        let store = |text: &str, key| ClientCertificate::store(text.to_owned(), &state, key);
        for refused in ["", "AAAA", &CERTIFICATE[..80], &"A".repeat(MAX_CERTIFICATE_BYTES + 4)] {
            assert!(store(refused, &own).is_err(), "{refused}");
        }
        let other = AgentPublicKey::from_bytes([7; 32]);
        assert!(store(CERTIFICATE, &other).is_err());
        assert!(ClientCertificate::load(&state, &own).is_none());

        let stored = store(CERTIFICATE, &own).expect("the certificate of this key pair");
        assert!(ClientCertificate::load(&state, &own).expect("stored").is_same(&stored));
        assert!(ClientCertificate::load(&state, &other).is_none(), "a copied directory");
    }
}
