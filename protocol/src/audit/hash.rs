//! The hashes of an audit log: SHA-256, as text in hex.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use ring::digest;
use serde::{Deserialize, Serialize};

use crate::identity::SignedMessage;

/// The text is not a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a hash of an audit log is 64 hex digits")]
pub struct InvalidAuditHash;

/// A hash of an entry or a link. The default, zeros, precedes the first link.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct AuditHash([u8; 32]);

impl AuditHash {
    /// The hash of a message.
    pub fn of(message: &SignedMessage) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, message.as_bytes()).as_ref());
        Self(hash)
    }

    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for AuditHash {
    type Err = InvalidAuditHash;

    fn from_str(text: &str) -> Result<Self, InvalidAuditHash> {
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| InvalidAuditHash)?;
        bytes.try_into().map(Self).map_err(|_| InvalidAuditHash)
    }
}

impl TryFrom<String> for AuditHash {
    type Error = InvalidAuditHash;

    fn try_from(text: String) -> Result<Self, InvalidAuditHash> {
        text.parse()
    }
}

impl From<AuditHash> for String {
    fn from(hash: AuditHash) -> Self {
        hash.to_string()
    }
}

impl fmt::Display for AuditHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&HEXLOWER.encode(&self.0))
    }
}
