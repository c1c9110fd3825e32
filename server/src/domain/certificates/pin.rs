//! The pin of a public key, by which a client knows a server before it trusts its authority.

use std::fmt;

use data_encoding::BASE64;
use ring::digest::{SHA256, digest};

/// The SHA-256 of a public key, in the form that `curl --pinnedpubkey` takes. It has no character that is
/// special in a shell within quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKeyPin(String);

impl PublicKeyPin {
    /// Of a DER-encoded `SubjectPublicKeyInfo`.
    pub fn of_public_key(subject_public_key_info: &[u8]) -> Self {
        let hash = digest(&SHA256, subject_public_key_info);
        Self(format!("sha256//{}", BASE64.encode(hash.as_ref())))
    }
}

impl fmt::Display for PublicKeyPin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
