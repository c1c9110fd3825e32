//! The key pair of an agent, which proves its identity: Ed25519, with ring.

mod proof;
mod signed_message;
mod weak_key;

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE64, BASE64_NOPAD};
use ring::digest;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use self::proof::Challenge;
pub use self::signed_message::SignedMessage;

/// The capability of agents that store certificates and show them to servers.
pub const CERTIFICATE_CAPABILITY: &str = "client_certificates";
/// The capability of agents that follow their server to another authority.
pub const AUTHORITIES_CAPABILITY: &str = "authorities";
/// Longest certificate of an agent or an authority, in base64.
pub const MAX_CERTIFICATE_BYTES: usize = 4_096;
/// Most retired authorities that a server names.
pub const MAX_RETIRED_AUTHORITIES: usize = 16;
/// What precedes the 32 bytes of an Ed25519 key in a DER-encoded `SubjectPublicKeyInfo` (RFC 8410).
const ED25519_KEY_INFO: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// What a fingerprint starts with: the name of its hash, as ssh prints it.
const FINGERPRINT_PREFIX: &str = "SHA256:";

/// The text or bytes are not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the text is not a public key of an agent")]
pub struct InvalidAgentKey;

/// The text is not a fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint is `SHA256:` and 43 characters, as `muster-agent status` prints it")]
pub struct InvalidFingerprint;

/// The public half of an agent's key pair. As text: base64 of its 32 bytes. Text with a key of
/// small order, or with a second encoding of a key, is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AgentPublicKey([u8; 32]);

/// SHA-256 of an agent's public key, for people to compare. As text: `SHA256:` and base64 without
/// padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint([u8; 32]);

/// An agent's key pair. The private half never leaves the host.
pub struct AgentKeyPair {
    pair: Ed25519KeyPair,
    public_key: AgentPublicKey,
}

impl AgentPublicKey {
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key as certificates contain it: a DER-encoded `SubjectPublicKeyInfo`.
    pub fn key_info(&self) -> Vec<u8> {
        [&ED25519_KEY_INFO[..], &self.0].concat()
    }

    pub fn fingerprint(&self) -> Fingerprint {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, &self.0).as_ref());
        Fingerprint(hash)
    }

    /// True if the key pair has made this signature, base64, over the message. Never true for a
    /// key of small order: its signatures need no private key.
    pub fn has_signed(&self, message: &[u8], signature: &str) -> bool {
        if weak_key::is_weak(&self.0) {
            return false;
        }
        let Ok(signature) = BASE64.decode(signature.as_bytes()) else { return false };
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, &signature).is_ok()
    }
}

impl Fingerprint {
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl AgentKeyPair {
    /// Generates a key pair, as PKCS #8 DER.
    ///
    /// # Errors
    /// [`InvalidAgentKey`] if the system provides no randomness.
    pub fn generate() -> Result<Zeroizing<Vec<u8>>, InvalidAgentKey> {
        let document =
            Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| InvalidAgentKey)?;
        Ok(Zeroizing::new(document.as_ref().to_vec()))
    }

    /// Parses the result of [`AgentKeyPair::generate`].
    ///
    /// # Errors
    /// [`InvalidAgentKey`]
    pub fn read(pkcs8: &[u8]) -> Result<Self, InvalidAgentKey> {
        Self::of(Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| InvalidAgentKey)?)
    }

    /// The key pair of a seed, for programs that simulate many agents.
    ///
    /// # Errors
    /// [`InvalidAgentKey`], which 32 bytes never return.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, InvalidAgentKey> {
        Self::of(Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| InvalidAgentKey)?)
    }

    fn of(pair: Ed25519KeyPair) -> Result<Self, InvalidAgentKey> {
        let bytes = pair.public_key().as_ref().try_into().map_err(|_| InvalidAgentKey)?;
        Ok(Self { pair, public_key: AgentPublicKey(bytes) })
    }

    /// The public half.
    pub fn public_key(&self) -> AgentPublicKey {
        self.public_key
    }

    /// Signs a [`SignedMessage`]. Returns base64.
    pub fn sign(&self, message: &[u8]) -> String {
        BASE64.encode(self.pair.sign(message).as_ref())
    }
}

impl fmt::Debug for AgentKeyPair {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("AgentKeyPair")
    }
}

impl FromStr for AgentPublicKey {
    type Err = InvalidAgentKey;

    fn from_str(text: &str) -> Result<Self, InvalidAgentKey> {
        let bytes = BASE64.decode(text.as_bytes()).map_err(|_| InvalidAgentKey)?;
        let key: [u8; 32] = bytes.try_into().map_err(|_| InvalidAgentKey)?;
        if weak_key::is_weak(&key) { Err(InvalidAgentKey) } else { Ok(Self(key)) }
    }
}

impl TryFrom<String> for AgentPublicKey {
    type Error = InvalidAgentKey;

    fn try_from(text: String) -> Result<Self, InvalidAgentKey> {
        text.parse()
    }
}

impl From<AgentPublicKey> for String {
    fn from(key: AgentPublicKey) -> Self {
        key.to_string()
    }
}

impl fmt::Display for AgentPublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&BASE64.encode(&self.0))
    }
}

impl FromStr for Fingerprint {
    type Err = InvalidFingerprint;

    fn from_str(text: &str) -> Result<Self, InvalidFingerprint> {
        let text = text.strip_prefix(FINGERPRINT_PREFIX).ok_or(InvalidFingerprint)?;
        let bytes = BASE64_NOPAD.decode(text.as_bytes()).map_err(|_| InvalidFingerprint)?;
        bytes.try_into().map(Self).map_err(|_| InvalidFingerprint)
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = InvalidFingerprint;

    fn try_from(text: String) -> Result<Self, InvalidFingerprint> {
        text.parse()
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.to_string()
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{FINGERPRINT_PREFIX}{}", BASE64_NOPAD.encode(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(seed: u8) -> AgentKeyPair {
        AgentKeyPair::from_seed(&[seed; 32]).expect("a seed")
    }

    #[test]
    fn a_signature_is_valid_only_for_its_message_and_its_key() {
        let (one, other) = (pair(1), pair(2));
        let signature = one.sign(b"message");
        let public = one.public_key();
        assert!(public.has_signed(b"message", &signature));
        assert!(!public.has_signed(b"another", &signature));
        assert!(!other.public_key().has_signed(b"message", &signature));
        for text in ["", "AAAA", "not base64"] {
            assert!(!public.has_signed(b"message", text), "{text}");
        }
    }

    #[test]
    fn keys_and_fingerprints_round_trip_as_text_and_other_text_is_rejected() {
        let pkcs8 = AgentKeyPair::generate().expect("randomness");
        let public = AgentKeyPair::read(&pkcs8).expect("a pair").public_key();
        assert_eq!(public.to_string().parse(), Ok(public));
        let fingerprint = public.fingerprint();
        assert_eq!(fingerprint.to_string().len(), "SHA256:".len() + 43);
        assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
        for text in ["", "AAAA", "SHA256:", "SHA256:AAAA", "not base64", "sha256:"] {
            assert_eq!(text.parse::<AgentPublicKey>(), Err(InvalidAgentKey), "{text}");
            assert_eq!(text.parse::<Fingerprint>(), Err(InvalidFingerprint), "{text}");
        }
        assert!(AgentKeyPair::read(b"").is_err());
    }
}
