//! The key that everything secret in the database is sealed with. Knows no files.

use std::fmt;

use data_encoding::BASE64;
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use crate::domain::access::credential::NoRandomness;

/// 256 random bits; wiped from memory when dropped, and never shown.
pub struct MasterKey(Zeroizing<[u8; 32]>);

/// A text is no master key. It may be one that was mistyped, so it is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it must be 32 random bytes in base64, as `openssl rand -base64 32` makes them")]
pub struct MalformedKey;

impl MasterKey {
    /// A new key.
    ///
    /// # Errors
    /// [`NoRandomness`] if the system gives none.
    pub fn random() -> Result<Self, NoRandomness> {
        let mut bytes = Zeroizing::new([0; 32]);
        SystemRandom::new().fill(bytes.as_mut_slice()).map_err(|_| NoRandomness)?;
        Ok(Self(bytes))
    }

    /// Reads base64 of 32 bytes; space around it does not count.
    ///
    /// # Errors
    /// [`MalformedKey`] if it is anything else.
    pub fn from_base64(text: &str) -> Result<Self, MalformedKey> {
        let decoded = BASE64.decode(text.trim().as_bytes()).map_err(|_| MalformedKey)?;
        let decoded = Zeroizing::new(decoded);
        let mut bytes = Zeroizing::new([0; 32]);
        if decoded.len() != bytes.len() {
            return Err(MalformedKey);
        }
        bytes.copy_from_slice(&decoded);
        Ok(Self(bytes))
    }

    /// Base64, for the file that keeps it.
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64.encode(self.0.as_slice()))
    }

    pub(in crate::domain) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_text_and_nothing_else_is_taken_for_one() {
        let key = MasterKey::random().expect("randomness");
        let text = format!(" {}\n", key.to_base64().as_str());
        let read = MasterKey::from_base64(&text).expect("a key");
        assert_eq!(read.bytes(), key.bytes());
        for text in ["", "c2hvcnQ=", "no base64!", &"A".repeat(44)] {
            assert_eq!(MasterKey::from_base64(text).err(), Some(MalformedKey), "{text}");
        }
    }
}
