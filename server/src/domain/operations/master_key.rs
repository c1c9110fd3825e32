//! The master key, which seals every secret in the database. Does not access files.

use std::fmt;

use data_encoding::BASE64;
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use crate::domain::access::credential::NoRandomness;

/// 256 random bits. Zeroed when dropped, and never printed.
pub struct MasterKey(Zeroizing<[u8; 32]>);

/// The text is not a master key. It may be a mistyped one, so it is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the master key must be 32 random bytes in base64; create one with `openssl rand -base64 32`"
)]
pub struct MalformedKey;

impl MasterKey {
    /// Generates a key.
    ///
    /// # Errors
    /// [`NoRandomness`] if the system's random source fails.
    pub fn random() -> Result<Self, NoRandomness> {
        let mut bytes = Zeroizing::new([0; 32]);
        SystemRandom::new().fill(bytes.as_mut_slice()).map_err(|_| NoRandomness)?;
        Ok(Self(bytes))
    }

    /// Parses base64 of 32 bytes. Surrounding whitespace is ignored.
    ///
    /// # Errors
    /// [`MalformedKey`] for any other text.
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

    /// Base64, for the key file.
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
    fn a_key_survives_writing_and_reading_and_other_texts_are_refused() {
        let key = MasterKey::random().expect("randomness");
        let text = format!(" {}\n", key.to_base64().as_str());
        let read = MasterKey::from_base64(&text).expect("a key");
        assert_eq!(read.bytes(), key.bytes());
        for text in ["", "c2hvcnQ=", "no base64!", &"A".repeat(44)] {
            assert_eq!(MasterKey::from_base64(text).err(), Some(MalformedKey), "{text}");
        }
    }
}
