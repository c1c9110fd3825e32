//! The server's own certificate authority: made once for each database, loaded when the server starts.
//!
//! It is stored in the database, sealed under the master key, together with the key of the server's certificate.
//! That key stays the same when the certificate or the authority is replaced, so that its pin stays valid. Other
//! processes may replace the authority, so every process reads it again from time to time.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use data_encoding::BASE64;
use muster_protocol::frame::AuthorityNotice;
use muster_protocol::identity::AgentPublicKey;
use rcgen::{KeyPair, PublicKeyData as _};
use tokio::sync::watch;
use uuid::Uuid;
use zeroize::Zeroizing;

pub use super::authority_record::AuthorityError;
use super::authority_record::{AuthorityKeys, SigningKey, der_of};
use super::issuing;
use crate::domain::certificates::client_certificate::KeyHash;
use crate::domain::certificates::names::CertificateName;
use crate::domain::certificates::pin::PublicKeyPin;
use crate::domain::certificates::rollover::{RolloverAction, RolloverState};
use crate::domain::certificates::validity::{
    AGENT_CERTIFICATE_MS, CALLER_CERTIFICATE_MS, SERVER_CERTIFICATE_MS, Validity,
};
use crate::domain::ids::{AgentId, TenantId};
use crate::domain::secret_box::SecretBox;
use crate::domain::time::{Clock, Timestamp};
use crate::store::Store;
use crate::store::queries::AuthorityChange;

/// The setting with the sealed record, and the field it is sealed for.
pub(in crate::services) const SETTING: &str = "certificate_authority";
/// The record belongs to no tenant.
const NO_TENANT: TenantId = TenantId(Uuid::nil());

/// A certificate of the server that was just issued, and its key. All is DER.
pub struct IssuedCertificate {
    pub certificate: Vec<u8>,
    /// The authority's key, signed by the former authority: for clients that trust only that one.
    pub proof: Option<Vec<u8>>,
    /// PKCS #8.
    pub key: Zeroizing<Vec<u8>>,
    pub validity: Validity,
}

/// The certificate that new connections are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServedCertificate {
    pub expires_at: Timestamp,
    /// When the server renews it; `None` for one from files.
    pub renew_at: Option<Timestamp>,
}

/// How far the authority is.
#[derive(Debug, Clone)]
pub struct AuthorityStatus {
    pub name: String,
    pub expires_at: Timestamp,
    pub rollover: RolloverState,
    /// When the present state of the rollover began.
    pub rollover_since: Option<Timestamp>,
    /// What agents confirm; `None` as long as the authority was never replaced.
    pub notice_id: Option<Uuid>,
}

/// The authority and the server's key. Cheap to clone.
#[derive(Clone)]
pub struct ServerAuthority(Arc<ServerAuthorityInner>);

struct ServerAuthorityInner {
    store: Store,
    secret_box: SecretBox,
    clock: Clock,
    names: Vec<CertificateName>,
    loaded: RwLock<Arc<Loaded>>,
    /// Counts the changes of what is loaded.
    changes: watch::Sender<u64>,
    served: Mutex<Option<ServedCertificate>>,
}

/// The record as it was read last.
struct Loaded {
    sealed: Vec<u8>,
    keys: AuthorityKeys,
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
                    .seal(NO_TENANT, SETTING, &AuthorityKeys::make(clock.now())?)
                    .map_err(AuthorityError::Sealing)?;
                store.system().create_setting_once(SETTING, new).await?
            }
        };
        let loaded = RwLock::new(Arc::new(Loaded::open(secret_box, sealed)?));
        Ok(Self(Arc::new(ServerAuthorityInner {
            store: store.clone(),
            secret_box: secret_box.clone(),
            clock: clock.clone(),
            names,
            loaded,
            changes: watch::Sender::new(0),
            served: Mutex::default(),
        })))
    }

    /// Reads the record again. True if another process has changed it.
    ///
    /// # Errors
    /// [`AuthorityError`]; the present one stays in use.
    pub async fn reload(&self) -> Result<bool, AuthorityError> {
        let shared = &self.0;
        let Some(sealed) = shared.store.system().setting(SETTING).await? else {
            return Err(AuthorityError::Damaged);
        };
        let present = self.loaded();
        if present.sealed == sealed {
            return Ok(false);
        }
        let loaded = Loaded::open(&shared.secret_box, sealed)?;
        // A rotation of the master key changes nothing else.
        let is_same = loaded.keys.is_same(&present.keys);
        *shared.loaded.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
        if !is_same {
            shared.changes.send_modify(|count| *count += 1);
        }
        Ok(!is_same)
    }

    /// Stores the state after a step of a rollover, and uses it. False if another process has changed it
    /// meanwhile, which is read then.
    ///
    /// # Errors
    /// [`AuthorityError`]
    pub async fn step(
        &self,
        action: RolloverAction,
        change: AuthorityChange,
    ) -> Result<bool, AuthorityError> {
        let shared = &self.0;
        let loaded = self.loaded();
        let next = loaded.keys.after(action, shared.clock.now())?;
        let sealed = shared.secret_box.seal(NO_TENANT, SETTING, &next);
        let sealed = sealed.map_err(AuthorityError::Sealing)?;
        let system = shared.store.system();
        let previous = loaded.sealed.clone();
        let is_stored = system.replace_authority(SETTING, (previous, sealed), change).await?;
        self.reload().await?;
        Ok(is_stored)
    }

    /// Changes when the authority is replaced.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Issues a certificate of the server, valid from now.
    ///
    /// # Errors
    /// [`AuthorityError::Issuing`]
    pub fn issue_server_certificate(&self) -> Result<IssuedCertificate, AuthorityError> {
        let loaded = self.loaded();
        let keys = &loaded.keys;
        let (certificate, validity) = self.issue_for_server(&keys.signing, &keys.server_key)?;
        let is_switched = keys.state() == RolloverState::Switched;
        let proof = keys.proof().filter(|_| is_switched).map(der_of).transpose()?;
        let key = Zeroizing::new(keys.server_key.serialize_der());
        Ok(IssuedCertificate { certificate, proof, key, validity })
    }

    fn issue_for_server(
        &self,
        signing: &SigningKey,
        server_key: &KeyPair,
    ) -> Result<(Vec<u8>, Validity), AuthorityError> {
        let validity = Validity::issued(self.0.clock.now(), SERVER_CERTIFICATE_MS);
        let authority = (signing.name.as_str(), &signing.key);
        let issued = issuing::server(authority, server_key, &self.0.names, &validity)?;
        Ok((issued.der().to_vec(), validity))
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
        let loaded = self.loaded();
        let signing = &loaded.keys.signing;
        let validity = Validity::issued(self.0.clock.now(), AGENT_CERTIFICATE_MS);
        let authority = (signing.name.as_str(), &signing.key);
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
        let loaded = self.loaded();
        let signing = &loaded.keys.signing;
        let key = issuing::requested_key(request)?;
        let validity = Validity::issued(self.0.clock.now(), CALLER_CERTIFICATE_MS);
        let authority = (signing.name.as_str(), &signing.key);
        let issued = issuing::client(authority, &key, name, &validity)?;
        Ok((issued.pem(), KeyHash::of_key_info(&key.subject_public_key_info()), validity))
    }

    /// What agents must know of the authorities; `None` as long as the authority was never replaced.
    ///
    /// # Errors
    /// [`AuthorityError`]
    pub(in crate::services) fn notice(&self) -> Result<Option<AuthorityNotice>, AuthorityError> {
        let loaded = self.loaded();
        let keys = &loaded.keys;
        let Some(id) = keys.notice_id() else { return Ok(None) };
        let announced = keys.announced();
        let proof = match keys.proof() {
            Some(signed) => {
                let (of_server, _) = self.issue_for_server(announced, &keys.server_key)?;
                vec![BASE64.encode(&of_server), BASE64.encode(&der_of(signed)?)]
            }
            None => Vec::new(),
        };
        let certificate = BASE64.encode(&der_of(&announced.certificate)?);
        Ok(Some(AuthorityNotice { id, certificate, proof, retired: keys.retired().to_vec() }))
    }

    /// True if a certificate with this validity must be renewed now.
    pub fn is_due(&self, validity: &Validity) -> bool {
        validity.is_due(self.0.clock.now())
    }

    /// Certificates of clients that were issued before this come from an earlier authority.
    pub fn signs_since(&self) -> Option<Timestamp> {
        self.loaded().keys.signs_since()
    }

    /// How far the authority is.
    pub fn status(&self) -> AuthorityStatus {
        let loaded = self.loaded();
        let keys = &loaded.keys;
        AuthorityStatus {
            name: keys.signing.name.clone(),
            expires_at: keys.signing.validity.not_after,
            rollover: keys.state(),
            rollover_since: keys.state_since(),
            notice_id: keys.notice_id(),
        }
    }

    /// True if it issues the server's own certificate, which agents must trust.
    pub fn is_serving(&self) -> bool {
        !self.0.names.is_empty()
    }

    /// The certificate that new connections are shown, once there is one.
    pub fn served(&self) -> Option<ServedCertificate> {
        *self.0.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers the certificate that new connections are shown.
    pub fn set_served(&self, served: ServedCertificate) {
        *self.0.served.lock().unwrap_or_else(PoisonError::into_inner) = Some(served);
    }

    /// The pin of the server's key. It stays the same when the certificate or the authority is replaced.
    pub fn pin(&self) -> PublicKeyPin {
        self.loaded().keys.pin.clone()
    }

    /// What the server's certificate is valid for.
    pub fn names(&self) -> &[CertificateName] {
        &self.0.names
    }

    /// True if the server's certificate is valid for this host of a URL.
    pub fn covers(&self, host: &str) -> bool {
        CertificateName::parse(host).is_ok_and(|name| self.0.names.contains(&name))
    }

    /// What clients should trust, in PEM: the authority, and the next one if it is announced.
    pub fn certificate_pem(&self) -> String {
        let loaded = self.loaded();
        let next = loaded.keys.next.as_ref().map_or("", |next| &next.certificate);
        format!("{}{next}", loaded.keys.signing.certificate)
    }

    /// The authorities whose certificates of clients count, in PEM.
    pub fn client_authorities_pem(&self) -> String {
        let former = self.loaded().keys.former().unwrap_or_default().to_owned();
        format!("{}{former}", self.certificate_pem())
    }

    fn loaded(&self) -> Arc<Loaded> {
        Arc::clone(&self.0.loaded.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Loaded {
    fn open(secret_box: &SecretBox, sealed: Vec<u8>) -> Result<Self, AuthorityError> {
        let plain =
            secret_box.open(NO_TENANT, SETTING, &sealed).map_err(AuthorityError::Changed)?;
        Ok(Self { keys: AuthorityKeys::read(&plain)?, sealed })
    }
}

impl fmt::Debug for ServerAuthority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ServerAuthority")
            .field("name", &self.loaded().keys.signing.name)
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
