//! Encrypts secrets for the database: AES-256-GCM with the master key.
//!
//! A sealed record is `version u8 (1) · key id 8 bytes · nonce 12 bytes · ciphertext and tag`. The
//! bytes before the nonce, the tenant and the field are its associated data, so a record that was
//! moved to another tenant or field does not open.
//!
//! Nonces are random, which is safe for 2^32 records under one key (NIST SP 800-38D, 8.3): a
//! thousand records a second for 49 days, or a million a day for eleven years.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use muster_protocol::identity::SignedMessage;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use super::ids::TenantId;
use super::operations::master_key::MasterKey;

const VERSION: u8 = 1;
const KEY_ID_BYTES: usize = 8;
const HEAD_BYTES: usize = 1 + KEY_ID_BYTES;

/// Something could not be sealed or opened. Gives no reason, so that it does not help an attacker
/// who tries keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("failed to seal or open a secret")]
pub struct Unsealable;

/// Seals and opens secrets. Cheap to clone: all clones have the same keys, also after they were replaced.
#[derive(Clone)]
pub struct SecretBox(Arc<RwLock<KeyRing>>);

#[derive(Clone)]
struct KeyRing {
    present: Arc<Keys>,
    /// Opens what was sealed before the master key was replaced.
    previous: Option<Arc<Keys>>,
}

struct Keys {
    head: [u8; HEAD_BYTES],
    sealing: LessSafeKey,
    digest: hmac::Key,
    tickets: hmac::Key,
}

/// Names the key that sealed a record, without revealing it; `None` if this is no record.
pub fn key_id_of(sealed: &[u8]) -> Option<String> {
    Some(HEXLOWER.encode(sealed.get(1..HEAD_BYTES)?))
}

impl SecretBox {
    /// # Errors
    /// [`Unsealable`] if the key cannot be used.
    pub fn new(key: &MasterKey) -> Result<Self, Unsealable> {
        let root = hmac::Key::new(hmac::HMAC_SHA256, key.bytes());
        let sealing = hmac::sign(&root, b"muster seal 1");
        let sealing = UnboundKey::new(&AES_256_GCM, sealing.as_ref()).map_err(|_| Unsealable)?;
        let digest = hmac::sign(&root, b"muster digest 1");
        let mut head = [VERSION; HEAD_BYTES];
        head[1..].copy_from_slice(&hmac::sign(&root, b"muster key id 1").as_ref()[..KEY_ID_BYTES]);
        let digest = hmac::Key::new(hmac::HMAC_SHA256, digest.as_ref());
        let tickets = hmac::sign(&root, b"muster ticket 1");
        let tickets = hmac::Key::new(hmac::HMAC_SHA256, tickets.as_ref());
        let keys = Keys { head, sealing: LessSafeKey::new(sealing), digest, tickets };
        let ring = KeyRing { present: Arc::new(keys), previous: None };
        Ok(Self(Arc::new(RwLock::new(ring))))
    }

    /// The same box, which also opens what another one has sealed.
    #[must_use]
    pub fn with_previous(self, previous: &Self) -> Self {
        let ring = KeyRing { previous: Some(previous.ring().present), ..self.ring() };
        Self(Arc::new(RwLock::new(ring)))
    }

    /// Replaces the present key in all clones. The key that it replaces still opens what it has sealed.
    pub fn replace_key(&self, new: &Self) {
        let new = new.ring().present;
        let mut ring = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if ring.present.head != new.head {
            let old = std::mem::replace(&mut ring.present, new);
            ring.previous = Some(old);
        }
    }

    /// True while another key than the present one opens secrets too.
    pub fn has_previous(&self) -> bool {
        self.ring().previous.is_some()
    }

    /// Forgets the previous key: what it has sealed opens no longer.
    pub fn forget_previous(&self) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).previous = None;
    }

    fn ring(&self) -> KeyRing {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// True for a record that was sealed with the present key, and not with the previous one.
    pub fn is_current(&self, sealed: &[u8]) -> bool {
        sealed.starts_with(&self.ring().present.head)
    }

    /// Seals a secret for one field of a tenant.
    ///
    /// # Errors
    /// [`Unsealable`] if the system has no random numbers.
    pub fn seal(
        &self,
        tenant_id: TenantId,
        field: &str,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, Unsealable> {
        let keys = self.ring().present;
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| Unsealable)?;
        let tag_bytes = AES_256_GCM.tag_len();
        let mut sealed = Vec::with_capacity(HEAD_BYTES + NONCE_LEN + plaintext.len() + tag_bytes);
        sealed.extend_from_slice(&keys.head);
        sealed.extend_from_slice(&nonce);
        // Encrypted in place, in a buffer with room for the tag, so that no plain copy is left in
        // memory.
        sealed.extend_from_slice(plaintext);
        let tag = keys
            .sealing
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                keys.associated(tenant_id, field),
                &mut sealed[HEAD_BYTES + NONCE_LEN..],
            )
            .map_err(|_| Unsealable)?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Opens a record that was sealed for this field of this tenant.
    ///
    /// # Errors
    /// [`Unsealable`] for everything else.
    pub fn open(
        &self,
        tenant_id: TenantId,
        field: &str,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Unsealable> {
        let ring = self.ring();
        let all = [Some(&ring.present), ring.previous.as_ref()];
        let sealed_with = |keys: &&Arc<Keys>| sealed.starts_with(&keys.head);
        let keys = all.into_iter().flatten().find(sealed_with).ok_or(Unsealable)?;
        let rest = &sealed[HEAD_BYTES..];
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_LEN>().ok_or(Unsealable)?;
        let mut opened = Zeroizing::new(ciphertext.to_vec());
        let associated = keys.associated(tenant_id, field);
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plaintext = keys.sealing.open_in_place(nonce, associated, &mut opened);
        let length = plaintext.map_err(|_| Unsealable)?.len();
        opened.truncate(length);
        Ok(opened)
    }

    /// A digest of the bytes under this key. Unlike with a plain hash, the database alone is not
    /// enough to test guesses.
    pub fn digest(&self, bytes: &[u8]) -> [u8; 32] {
        let mut digest = [0; 32];
        digest.copy_from_slice(hmac::sign(&self.ring().present.digest, bytes).as_ref());
        digest
    }

    /// A ticket for what it says: only the holder of the master key can make it, and only for that.
    pub fn issue_ticket(&self, content: &SignedMessage) -> String {
        let tag = hmac::sign(&self.ring().present.tickets, content.as_bytes());
        BASE64URL_NOPAD.encode(tag.as_ref())
    }

    /// True if the ticket was issued for this content under this master key.
    pub fn is_ticket_for(&self, content: &SignedMessage, ticket: &str) -> bool {
        let Ok(tag) = BASE64URL_NOPAD.decode(ticket.as_bytes()) else { return false };
        let ring = self.ring();
        let all = [Some(&ring.present), ring.previous.as_ref()];
        all.into_iter()
            .flatten()
            .any(|keys| hmac::verify(&keys.tickets, content.as_bytes(), &tag).is_ok())
    }
}

impl Keys {
    fn associated(&self, tenant_id: TenantId, field: &str) -> Aad<Vec<u8>> {
        // All parts but the last have a fixed length, so different triples give different bytes.
        Aad::from([&self.head, tenant_id.0.as_bytes().as_slice(), field.as_bytes()].concat())
    }
}

impl fmt::Debug for SecretBox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBox")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn boxed(byte: u8) -> SecretBox {
        let key = data_encoding::BASE64.encode(&[byte; 32]);
        SecretBox::new(&MasterKey::from_base64(&key).expect("a key")).expect("a box")
    }

    #[test]
    fn all_clones_seal_with_a_new_key_and_open_what_the_one_before_sealed_until_it_is_forgotten() {
        let (one, tenant) = (boxed(1), TenantId(uuid::Uuid::from_u128(1)));
        let clone = one.clone();
        let old = one.seal(tenant, "field", b"secret").expect("sealed");
        one.replace_key(&boxed(2));
        one.replace_key(&boxed(2));
        assert!(clone.has_previous() && !clone.is_current(&old));
        assert_eq!(*clone.open(tenant, "field", &old).expect("opened"), b"secret");
        let new = clone.seal(tenant, "field", b"secret").expect("sealed");
        assert_eq!(*boxed(2).open(tenant, "field", &new).expect("opened"), b"secret");
        one.forget_previous();
        assert!(clone.open(tenant, "field", &old).is_err() && !clone.has_previous());
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_whole_where_it_belongs_and_nowhere_else(
            secret in prop::collection::vec(any::<u8>(), 0..100),
            flipped in any::<prop::sample::Index>(),
        ) {
            let (mine, tenant) = (boxed(1), TenantId(uuid::Uuid::from_u128(1)));
            let other = TenantId(uuid::Uuid::from_u128(2));
            let sealed = mine.seal(tenant, "field", &secret).expect("sealed");
            prop_assert_eq!(&*mine.open(tenant, "field", &sealed).expect("opened"), &secret);
            prop_assert!(mine.open(other, "field", &sealed).is_err());
            prop_assert!(mine.open(tenant, "fields", &sealed).is_err());
            prop_assert!(boxed(2).open(tenant, "field", &sealed).is_err());
            prop_assert!(mine.open(tenant, "field", &sealed[..sealed.len() - 1]).is_err());
            let mut damaged = sealed.clone();
            damaged[flipped.index(sealed.len())] ^= 1;
            prop_assert!(mine.open(tenant, "field", &damaged).is_err());
            let again = mine.seal(tenant, "field", &secret).expect("sealed");
            prop_assert_ne!(sealed, again, "a nonce was used twice");
        }
    }
}
