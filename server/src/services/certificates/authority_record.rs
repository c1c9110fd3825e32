//! The stored record of the server's authority, and the states that a rollover gives it. Reads and
//! writes no database.

use data_encoding::{BASE64, HEXLOWER};
use muster_protocol::identity::MAX_RETIRED_AUTHORITIES;
use rcgen::{KeyPair, PublicKeyData as _};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::{Zeroize as _, Zeroizing};

use super::issuing;
use crate::domain::certificates::pin::PublicKeyPin;
use crate::domain::certificates::rollover::{RolloverAction, RolloverState};
use crate::domain::certificates::validity::{AUTHORITY_CERTIFICATE_MS, Validity};
use crate::domain::secret_box::Unsealable;
use crate::domain::time::Timestamp;
use crate::store::StoreError;

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
#[derive(Clone, Serialize, Deserialize)]
struct AuthorityRecord {
    format: u32,
    /// Signs certificates.
    authority: StoredKey,
    /// Of the server's certificate: base64 of PKCS #8 DER.
    server_key: String,
    rollover: Option<StoredRollover>,
    /// Of what agents must know of the authorities; `None` until something has changed.
    notice_id: Option<Uuid>,
    /// SHA-256 of certificates that agents must not trust any more, hex, oldest first.
    retired: Vec<String>,
    /// Certificates of clients that were issued before come from an earlier authority.
    signs_since: Option<Timestamp>,
}

/// An authority with its key.
#[derive(Clone, Serialize, Deserialize)]
struct StoredKey {
    /// The common name.
    name: String,
    issued_at: Timestamp,
    /// PEM.
    certificate: String,
    /// Base64 of PKCS #8 DER.
    key: String,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum StoredRollover {
    Announced {
        next: StoredKey,
        /// The key of the next authority, signed by the present one. PEM.
        proof: String,
        at: Timestamp,
    },
    Switched {
        /// The certificate of the former authority, PEM. Its key is gone.
        former: String,
        proof: String,
        at: Timestamp,
    },
}

impl Drop for StoredKey {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl Drop for AuthorityRecord {
    fn drop(&mut self) {
        self.server_key.zeroize();
    }
}

/// An authority that can sign.
pub(super) struct SigningKey {
    pub name: String,
    /// PEM.
    pub certificate: String,
    pub key: KeyPair,
    pub validity: Validity,
}

/// The record with its keys, ready for use.
pub(super) struct AuthorityKeys {
    record: AuthorityRecord,
    pub signing: SigningKey,
    /// Announced, and not signing yet.
    pub next: Option<SigningKey>,
    pub server_key: KeyPair,
    pub pin: PublicKeyPin,
}

impl AuthorityKeys {
    /// A new authority, as it is stored.
    ///
    /// # Errors
    /// [`AuthorityError`]
    pub fn make(now: Timestamp) -> Result<Zeroizing<Vec<u8>>, AuthorityError> {
        let server_key = issuing::new_key()?;
        let record = AuthorityRecord {
            format: FORMAT,
            authority: StoredKey::make(now)?,
            server_key: encode(&server_key),
            rollover: None,
            notice_id: None,
            retired: Vec::new(),
            signs_since: None,
        };
        record.to_bytes()
    }

    /// Reads what is stored.
    ///
    /// # Errors
    /// [`AuthorityError::Damaged`], [`AuthorityError::Later`]
    pub fn read(plain: &[u8]) -> Result<Self, AuthorityError> {
        #[derive(Deserialize)]
        struct FormatOnly {
            format: u32,
        }
        let damaged = |_| AuthorityError::Damaged;
        let FormatOnly { format } = serde_json::from_slice(plain).map_err(damaged)?;
        if format > FORMAT {
            return Err(AuthorityError::Later(format));
        }
        let record: AuthorityRecord = serde_json::from_slice(plain).map_err(damaged)?;
        let next = match &record.rollover {
            Some(StoredRollover::Announced { next, .. }) => Some(next.read()?),
            _ => None,
        };
        let server_key = decode(&record.server_key)?;
        Ok(Self {
            signing: record.authority.read()?,
            next,
            pin: PublicKeyPin::of_public_key(&server_key.subject_public_key_info()),
            server_key,
            record,
        })
    }

    /// The record after a step of a rollover, which the present state must permit.
    ///
    /// # Errors
    /// [`AuthorityError`]
    pub fn after(
        &self,
        action: RolloverAction,
        now: Timestamp,
    ) -> Result<Zeroizing<Vec<u8>>, AuthorityError> {
        let mut record = self.record.clone();
        match (action, record.rollover.take()) {
            (RolloverAction::Announce, None) => {
                let next = StoredKey::make(now)?;
                let proof = self.sign_next(&next, now)?;
                record.rollover = Some(StoredRollover::Announced { next, proof, at: now });
                record.notice_id = Some(Uuid::new_v4());
            }
            (RolloverAction::Switch, Some(StoredRollover::Announced { next, proof, .. })) => {
                let former = record.authority.certificate.clone();
                record.authority = next;
                record.signs_since = Some(now);
                record.rollover = Some(StoredRollover::Switched { former, proof, at: now });
            }
            (RolloverAction::Retire, Some(StoredRollover::Switched { former, .. })) => {
                record.retire(&former)?;
            }
            (RolloverAction::Abort, Some(StoredRollover::Announced { next, .. })) => {
                record.retire(&next.certificate)?;
            }
            _ => return Err(AuthorityError::Damaged),
        }
        record.to_bytes()
    }

    fn sign_next(&self, next: &StoredKey, now: Timestamp) -> Result<String, AuthorityError> {
        // It is invalid after the end of the authority that signs it.
        let left_ms = self.signing.validity.not_after.ms_since(now);
        let validity = Validity::issued(now, left_ms);
        let signer = (self.signing.name.as_str(), &self.signing.key);
        let key = decode(&next.key)?;
        Ok(issuing::next_authority(signer, (&next.name, &key), &validity)?.pem())
    }

    /// True if both are the same state of the same authority.
    pub fn is_same(&self, other: &Self) -> bool {
        let certificate = |keys: &Self| keys.signing.certificate.clone();
        (certificate(self), self.state(), self.notice_id())
            == (certificate(other), other.state(), other.notice_id())
    }

    pub fn state(&self) -> RolloverState {
        match self.record.rollover {
            None => RolloverState::None,
            Some(StoredRollover::Announced { .. }) => RolloverState::Announced,
            Some(StoredRollover::Switched { .. }) => RolloverState::Switched,
        }
    }

    /// When the present state of the rollover began.
    pub fn state_since(&self) -> Option<Timestamp> {
        match &self.record.rollover {
            None => None,
            Some(StoredRollover::Announced { at, .. } | StoredRollover::Switched { at, .. }) => {
                Some(*at)
            }
        }
    }

    /// The authority that agents must trust: the next one, from its announcement on.
    pub fn announced(&self) -> &SigningKey {
        self.next.as_ref().unwrap_or(&self.signing)
    }

    /// The announced authority's key, signed by the former one. PEM.
    pub fn proof(&self) -> Option<&str> {
        match &self.record.rollover {
            None => None,
            Some(
                StoredRollover::Announced { proof, .. } | StoredRollover::Switched { proof, .. },
            ) => Some(proof),
        }
    }

    /// The former authority, while it is still trusted. PEM.
    pub fn former(&self) -> Option<&str> {
        match &self.record.rollover {
            Some(StoredRollover::Switched { former, .. }) => Some(former),
            _ => None,
        }
    }

    pub fn notice_id(&self) -> Option<Uuid> {
        self.record.notice_id
    }

    pub fn retired(&self) -> &[String] {
        &self.record.retired
    }

    pub fn signs_since(&self) -> Option<Timestamp> {
        self.record.signs_since
    }
}

impl AuthorityRecord {
    /// Agents must not trust this certificate any more.
    fn retire(&mut self, certificate: &str) -> Result<(), AuthorityError> {
        let der = der_of(certificate)?;
        self.retired.push(HEXLOWER.encode(digest(&SHA256, &der).as_ref()));
        self.retired.drain(..self.retired.len().saturating_sub(MAX_RETIRED_AUTHORITIES));
        self.notice_id = Some(Uuid::new_v4());
        Ok(())
    }

    fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>, AuthorityError> {
        let text = serde_json::to_vec(self).map_err(|_| AuthorityError::Damaged)?;
        Ok(Zeroizing::new(text))
    }
}

impl StoredKey {
    fn make(now: Timestamp) -> Result<Self, AuthorityError> {
        let mut random = [0; 4];
        SystemRandom::new().fill(&mut random).map_err(|_| rcgen::Error::RingUnspecified)?;
        // People who manage several servers can distinguish their authorities.
        let name = format!("Muster authority {}", HEXLOWER.encode(&random));
        let key = issuing::new_key()?;
        let validity = Validity::issued(now, AUTHORITY_CERTIFICATE_MS);
        let certificate = issuing::authority(&name, &key, &validity)?.pem();
        Ok(Self { name, issued_at: now, certificate, key: encode(&key) })
    }

    fn read(&self) -> Result<SigningKey, AuthorityError> {
        Ok(SigningKey {
            name: self.name.clone(),
            certificate: self.certificate.clone(),
            key: decode(&self.key)?,
            validity: Validity::issued(self.issued_at, AUTHORITY_CERTIFICATE_MS),
        })
    }
}

/// The bytes of a certificate that this server has written as PEM.
///
/// # Errors
/// [`AuthorityError::Damaged`]
pub(super) fn der_of(certificate: &str) -> Result<Vec<u8>, AuthorityError> {
    let lines = certificate.lines().filter(|line| !line.starts_with("-----"));
    let text: String = lines.map(str::trim).collect();
    BASE64.decode(text.as_bytes()).map_err(|_| AuthorityError::Damaged)
}

fn encode(key: &KeyPair) -> String {
    BASE64.encode(&Zeroizing::new(key.serialize_der()))
}

fn decode(text: &str) -> Result<KeyPair, AuthorityError> {
    let der = BASE64.decode(text.as_bytes()).map_err(|_| AuthorityError::Damaged)?;
    Ok(KeyPair::try_from(Zeroizing::new(der).as_slice())?)
}
