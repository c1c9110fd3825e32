//! The server's own certificate authority: made once for each database, loaded when the server starts.
//!
//! It is stored in the database, sealed under the master key, together with the key of the server's certificate.
//! That key stays the same when the certificate is renewed, so that its pin stays valid.

use std::fmt;
use std::sync::Arc;

use data_encoding::{BASE64, HEXLOWER};
use muster_protocol::identity::AgentPublicKey;
use rcgen::{KeyPair, PublicKeyData as _};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::issuing;
use crate::domain::certificates::client_certificate::KeyHash;
use crate::domain::certificates::names::CertificateName;
use crate::domain::certificates::pin::PublicKeyPin;
use crate::domain::certificates::validity::{
    AGENT_CERTIFICATE_MS, AUTHORITY_CERTIFICATE_MS, CALLER_CERTIFICATE_MS, SERVER_CERTIFICATE_MS,
    Validity,
};
use crate::domain::ids::{AgentId, TenantId};
use crate::domain::secret_box::{SecretBox, Unsealable};
use crate::domain::time::Clock;
use crate::store::{Store, StoreError};

/// The setting with the sealed record, and the field it is sealed for.
pub(in crate::services) const SETTING: &str = "certificate_authority";
/// The record belongs to no tenant.
const NO_TENANT: TenantId = TenantId(Uuid::nil());
/// Of the stored record. A server refuses a later one.
const FORMAT: u32 = 1;

/// The authority can't be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("the stored certificate authority was changed, or was sealed with another master key")]
    Changed(#[source] Unsealable),
    #[error("the stored certificate authority is damaged")]
    Damaged,
    #[error("the stored certificate authority was written by a later version (format {0})")]
    Later(u32),
    #[error("failed to seal the certificate authority")]
    Sealing(#[source] Unsealable),
    #[error("failed to make a key or a certificate")]
    Issuing(#[from] rcgen::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is stored.
#[derive(Serialize, Deserialize)]
struct StoredAuthority {
    format: u32,
    /// The common name of the authority.
    name: String,
    /// PEM.
    certificate: String,
    /// Base64 of PKCS #8 DER, as is the other key.
    key: String,
    /// Of the server's certificate.
    server_key: String,
}

impl Drop for StoredAuthority {
    fn drop(&mut self) {
        use zeroize::Zeroize as _;
        self.key.zeroize();
        self.server_key.zeroize();
    }
}

/// A certificate of the server that was just issued, and its key. All is DER.
pub struct IssuedCertificate {
    pub certificate: Vec<u8>,
    /// PKCS #8.
    pub key: Zeroizing<Vec<u8>>,
    pub validity: Validity,
}

/// The authority and the server's key. Cheap to clone.
#[derive(Clone)]
pub struct ServerAuthority(Arc<ServerAuthorityInner>);

struct ServerAuthorityInner {
    name: String,
    certificate: String,
    key: KeyPair,
    server_key: KeyPair,
    names: Vec<CertificateName>,
    pin: PublicKeyPin,
    clock: Clock,
}

impl ServerAuthority {
    /// Loads the authority, or makes it if the database has none. Processes that make one at the same time all
    /// get the one that was stored first. Its certificates of the server will be for `names`.
    ///
    /// # Errors
    /// [`AuthorityError`]
    pub async fn load(
        store: &Store,
        secret_box: &SecretBox,
        clock: &Clock,
        names: Vec<CertificateName>,
    ) -> Result<Self, AuthorityError> {
        let sealed = match store.system().setting(SETTING).await? {
            Some(sealed) => sealed,
            None => {
                let new = secret_box
                    .seal(NO_TENANT, SETTING, &make(clock)?)
                    .map_err(AuthorityError::Sealing)?;
                store.system().create_setting_once(SETTING, new).await?
            }
        };
        let plain =
            secret_box.open(NO_TENANT, SETTING, &sealed).map_err(AuthorityError::Changed)?;
        let stored: StoredAuthority =
            serde_json::from_slice(&plain).map_err(|_| AuthorityError::Damaged)?;
        if stored.format > FORMAT {
            return Err(AuthorityError::Later(stored.format));
        }
        let key = |text: &str| -> Result<KeyPair, AuthorityError> {
            let der = BASE64.decode(text.as_bytes()).map_err(|_| AuthorityError::Damaged)?;
            Ok(KeyPair::try_from(Zeroizing::new(der).as_slice())?)
        };
        let server_key = key(&stored.server_key)?;
        Ok(Self(Arc::new(ServerAuthorityInner {
            name: stored.name.clone(),
            certificate: stored.certificate.clone(),
            key: key(&stored.key)?,
            pin: PublicKeyPin::of_public_key(&server_key.subject_public_key_info()),
            server_key,
            names,
            clock: clock.clone(),
        })))
    }

    /// Issues a certificate of the server, valid from now.
    ///
    /// # Errors
    /// [`AuthorityError::Issuing`]
    pub fn issue_server_certificate(&self) -> Result<IssuedCertificate, AuthorityError> {
        let shared = &self.0;
        let validity = Validity::issued(shared.clock.now(), SERVER_CERTIFICATE_MS);
        let authority = (shared.name.as_str(), &shared.key);
        let issued = issuing::server(authority, &shared.server_key, &shared.names, &validity)?;
        Ok(IssuedCertificate {
            certificate: issued.der().to_vec(),
            key: Zeroizing::new(shared.server_key.serialize_der()),
            validity,
        })
    }

    /// Issues a certificate for the key pair of an agent, valid from now. DER.
    ///
    /// # Errors
    /// [`AuthorityError::Issuing`]
    pub(super) fn issue_agent_certificate(
        &self,
        agent_id: AgentId,
        key: &AgentPublicKey,
    ) -> Result<(Vec<u8>, Validity), AuthorityError> {
        let shared = &self.0;
        let validity = Validity::issued(shared.clock.now(), AGENT_CERTIFICATE_MS);
        let authority = (shared.name.as_str(), &shared.key);
        let name = format!("Muster agent {agent_id}");
        let issued = issuing::client(authority, &issuing::AgentKey(key), &name, &validity)?;
        Ok((issued.der().to_vec(), validity))
    }

    /// Issues a certificate for the key of a certificate request in PEM, valid from now. Returns the certificate
    /// in PEM, and the hash of its key.
    ///
    /// # Errors
    /// [`AuthorityError::Issuing`], also if the request can't be read or its signature is wrong.
    pub(super) fn issue_requested_certificate(
        &self,
        name: &str,
        request: &str,
    ) -> Result<(String, KeyHash, Validity), AuthorityError> {
        let shared = &self.0;
        let key = issuing::requested_key(request)?;
        let validity = Validity::issued(shared.clock.now(), CALLER_CERTIFICATE_MS);
        let authority = (shared.name.as_str(), &shared.key);
        let issued = issuing::client(authority, &key, name, &validity)?;
        Ok((issued.pem(), KeyHash::of_key_info(&key.subject_public_key_info()), validity))
    }

    /// True if a certificate with this validity must be renewed now.
    pub fn is_due(&self, validity: &Validity) -> bool {
        validity.is_due(self.0.clock.now())
    }

    /// The pin of the server's key. It stays the same when the certificate is renewed.
    pub fn pin(&self) -> &PublicKeyPin {
        &self.0.pin
    }

    /// What the server's certificate is valid for.
    pub fn names(&self) -> &[CertificateName] {
        &self.0.names
    }

    /// True if the server's certificate is valid for this host of a URL.
    pub fn covers(&self, host: &str) -> bool {
        CertificateName::parse(host).is_ok_and(|name| self.0.names.contains(&name))
    }

    /// The authority's certificate in PEM, for clients that should trust it.
    pub fn certificate_pem(&self) -> &str {
        &self.0.certificate
    }
}

impl fmt::Debug for ServerAuthority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = &self.0;
        formatter
            .debug_struct("ServerAuthority")
            .field("name", &shared.name)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for IssuedCertificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let validity = &self.validity;
        formatter
            .debug_struct("IssuedCertificate")
            .field("validity", validity)
            .finish_non_exhaustive()
    }
}

/// A new authority, as it is stored.
fn make(clock: &Clock) -> Result<Zeroizing<Vec<u8>>, AuthorityError> {
    let mut random = [0; 4];
    SystemRandom::new().fill(&mut random).map_err(|_| rcgen::Error::RingUnspecified)?;
    // People who manage several servers can distinguish their authorities.
    let name = format!("Muster authority {}", HEXLOWER.encode(&random));
    let (key, server_key) = (issuing::new_key()?, issuing::new_key()?);
    let validity = Validity::issued(clock.now(), AUTHORITY_CERTIFICATE_MS);
    let certificate = issuing::authority(&name, &key, &validity)?;
    let encode = |key: &KeyPair| BASE64.encode(&Zeroizing::new(key.serialize_der()));
    let stored = StoredAuthority {
        format: FORMAT,
        name,
        certificate: certificate.pem(),
        key: encode(&key),
        server_key: encode(&server_key),
    };
    let text = serde_json::to_vec(&stored).map_err(|_| AuthorityError::Damaged)?;
    Ok(Zeroizing::new(text))
}
