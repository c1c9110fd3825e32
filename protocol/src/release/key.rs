//! Keys that sign releases: Ed25519, with ring.

use std::fmt;

use data_encoding::{BASE64, HEXLOWER};
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Prefixes of signed bytes, so that a signature of one kind is never valid for another.
const RELEASE: &[u8] = b"muster release 1\0";
const KEY_CHANGE: &[u8] = b"muster release key change 1\0";

/// The text or bytes are not a valid key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the release key can't be read")]
pub struct InvalidKey;

/// The public half of a key. As text: base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; 32]);

/// A signature and the key that made it. As JSON it is a file beside the signed one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    pub key: PublicKey,
    /// base64.
    pub signature: String,
}

/// A statement, signed by the old key, that a new key signs releases from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyChange {
    pub old: PublicKey,
    pub new: PublicKey,
    /// By `old`; base64.
    pub signature: String,
}

/// The private half of a key, kept by the publisher of releases.
pub struct SigningKey(Ed25519KeyPair);

impl PublicKey {
    /// The fingerprint that people compare and hosts pin: 64 hex digits of SHA-256.
    pub fn fingerprint(&self) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, &self.0);
        HEXLOWER.encode(digest.as_ref())
    }

    fn has_signed(&self, context: &[u8], bytes: &[u8], signature: &str) -> bool {
        let Ok(signature) = BASE64.decode(signature.as_bytes()) else { return false };
        let message = [context, bytes].concat();
        UnparsedPublicKey::new(&ED25519, &self.0).verify(&message, &signature).is_ok()
    }
}

impl TryFrom<String> for PublicKey {
    type Error = InvalidKey;

    fn try_from(text: String) -> Result<Self, InvalidKey> {
        let bytes = BASE64.decode(text.as_bytes()).map_err(|_| InvalidKey)?;
        bytes.try_into().map(Self).map_err(|_| InvalidKey)
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&BASE64.encode(&self.0))
    }
}

impl Signature {
    /// True if its key has signed this descriptor.
    pub fn is_of(&self, document: &[u8]) -> bool {
        self.key.has_signed(RELEASE, document, &self.signature)
    }
}

impl KeyChange {
    /// True if the old key has signed this change.
    pub fn is_valid(&self) -> bool {
        self.old.has_signed(KEY_CHANGE, &self.new.0, &self.signature)
    }
}

impl SigningKey {
    /// Generates a key, as PKCS #8 DER.
    ///
    /// # Errors
    /// [`InvalidKey`] if the system provides no randomness.
    pub fn generate() -> Result<Zeroizing<Vec<u8>>, InvalidKey> {
        let document =
            Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| InvalidKey)?;
        Ok(Zeroizing::new(document.as_ref().to_vec()))
    }

    /// Parses the result of [`SigningKey::generate`].
    ///
    /// # Errors
    /// [`InvalidKey`]
    pub fn read(pkcs8: &[u8]) -> Result<Self, InvalidKey> {
        Ed25519KeyPair::from_pkcs8(pkcs8).map(Self).map_err(|_| InvalidKey)
    }

    /// The public half.
    ///
    /// # Errors
    /// [`InvalidKey`], which a valid key never returns.
    pub fn public(&self) -> Result<PublicKey, InvalidKey> {
        self.0.public_key().as_ref().try_into().map(PublicKey).map_err(|_| InvalidKey)
    }

    /// Signs the bytes of a descriptor.
    ///
    /// # Errors
    /// As [`SigningKey::public`].
    pub fn sign(&self, document: &[u8]) -> Result<Signature, InvalidKey> {
        Ok(Signature { key: self.public()?, signature: self.signature(RELEASE, document) })
    }

    /// Signs the statement that `new` signs releases from now on.
    ///
    /// # Errors
    /// As [`SigningKey::public`].
    pub fn sign_key_change(&self, new: PublicKey) -> Result<KeyChange, InvalidKey> {
        Ok(KeyChange { old: self.public()?, new, signature: self.signature(KEY_CHANGE, &new.0) })
    }

    fn signature(&self, context: &[u8], bytes: &[u8]) -> String {
        BASE64.encode(self.0.sign(&[context, bytes].concat()).as_ref())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SigningKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SigningKey {
        SigningKey::read(&SigningKey::generate().unwrap()).unwrap()
    }

    #[test]
    fn signature_is_valid_only_for_its_bytes_its_key_and_its_kind() {
        let (one, other) = (key(), key());
        let signature = one.sign(b"abc").unwrap();
        assert!(signature.is_of(b"abc"));
        assert!(!signature.is_of(b"abd"));
        let claimed = Signature { key: other.public().unwrap(), ..signature.clone() };
        assert!(!claimed.is_of(b"abc"));

        let change = one.sign_key_change(other.public().unwrap()).unwrap();
        assert!(change.is_valid());
        let turned = KeyChange { new: change.old, ..change.clone() };
        assert!(!turned.is_valid());
        let as_release = Signature { key: change.old, signature: change.signature };
        assert!(!as_release.is_of(&change.new.0));
    }

    #[test]
    fn keys_round_trip_as_text_and_other_text_is_rejected() {
        let public = key().public().unwrap();
        assert_eq!(PublicKey::try_from(public.to_string()), Ok(public));
        assert_eq!(public.fingerprint().len(), 64);
        for text in ["", "AAAA", "not base64"] {
            assert_eq!(PublicKey::try_from(text.to_owned()), Err(InvalidKey));
        }
        assert!(SigningKey::read(b"").is_err());
    }
}
