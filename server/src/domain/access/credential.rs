//! Secrets that Muster issues: generated once, shown once, stored only as a hash.

use data_encoding::HEXLOWER;
use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};

/// Prefix of the token with which the first owner is made.
pub const SETUP_TOKEN_PREFIX: &str = "mst_setup_";

/// Prefix of the token of an invitation.
pub const INVITATION_PREFIX: &str = "mst_invite_";

/// Prefix of the token for a new password.
pub const PASSWORD_RESET_PREFIX: &str = "mst_reset_";
/// Prefix of the secret of a program that waits for a person to approve its sign-in.
pub const DEVICE_CODE_PREFIX: &str = "mst_device_";

/// The secret that a request presents: the token of `Authorization: Bearer`, else `x-api-key`. An
/// empty one counts as none.
pub fn presented<'a>(authorization: Option<&'a str>, api_key: Option<&'a str>) -> Option<&'a str> {
    let bearer = authorization.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let is_present = |secret: &&str| !secret.is_empty();
    bearer.filter(is_present).or(api_key.filter(is_present))
}

/// SHA-256 of a secret. A secret has 256 random bits, so a fast hash is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SecretHash(pub [u8; 32]);

impl SecretHash {
    /// The hash of what a caller presents.
    pub fn of(secret: &str) -> Self {
        let hash = digest::digest(&digest::SHA256, secret.as_bytes());
        let mut bytes = [0; 32];
        bytes.copy_from_slice(hash.as_ref());
        Self(bytes)
    }
}

/// A new secret in clear text. Show it once, then drop it.
pub struct NewSecret {
    /// The secret, for its owner.
    pub secret: String,
    /// The hash, for the server.
    pub hash: SecretHash,
    /// The first characters, to recognise the key in lists.
    pub prefix: String,
}

/// The system's random source failed, so nothing secure can be generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system's source of random numbers failed")]
pub struct NoRandomness;

impl NewSecret {
    /// Generates a secret of 256 random bits with a prefix.
    ///
    /// # Errors
    /// [`NoRandomness`] if the system's random source fails.
    pub fn random(prefix: &str) -> Result<Self, NoRandomness> {
        let mut bytes = [0; 32];
        SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomness)?;
        Ok(Self::from_text(format!("{prefix}{}", HEXLOWER.encode(&bytes)), prefix))
    }

    /// A secret that an operator chose.
    pub fn from_text(secret: String, prefix: &str) -> Self {
        let shown = (prefix.len() + 6).min(secret.len());
        Self { hash: SecretHash::of(&secret), prefix: secret[..shown].to_owned(), secret }
    }
}
