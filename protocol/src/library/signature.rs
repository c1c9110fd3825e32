//! What a publisher signs about a version, offline, and how a host checks it.
//!
//! The signed bytes are a context and the statement, exactly as the publisher wrote it: JSON with the
//! fields of [`SignedScript`]. Servers store and send it, and can neither make nor change one.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{ScriptDocument, sha256_hex};
use crate::identity::{AgentKeyPair, AgentPublicKey, SignedMessage};

/// The version of the statement.
pub const STATEMENT_FORMAT: u32 = 1;
/// Size of a statement with its signature.
pub const MAX_SIGNATURE_BYTES: usize = 2 * 1024;
/// Longest validity that a host accepts: 400 days.
pub const MAX_SIGNATURE_LIFETIME_MS: u64 = 400 * 24 * 3_600_000;
/// What a statement is signed as.
const CONTEXT: &str = "muster script 1";

/// A signed statement about one version of a script, or of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ScriptSignature {
    /// JSON, byte for byte as it was signed.
    pub statement: String,
    /// base64, by the publisher's key pair.
    pub signature: String,
}

/// What a publisher states: hosts that trust this key may run this version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedScript {
    pub format: u32,
    /// The key that signs.
    pub publisher: AgentPublicKey,
    pub name: String,
    pub version: u32,
    /// Hex SHA-256 of the document, which has name, version, interpreter, parameters, and the SHA-256 of
    /// the body.
    pub document_sha256: String,
    /// A host that has accepted this statement runs no older version of the script any more.
    pub minimum_version: u32,
    /// In milliseconds since the Unix epoch, by the host's clock.
    pub expires_at_ms: u64,
}

/// Why no signature allows a version. The messages are shown to people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error("none of the publishers that this host trusts has signed it")]
    Unsigned,
    #[error("the signature is for another script, package or version")]
    Other,
    #[error("the signature has expired by the host's clock")]
    Expired,
    #[error("the signature is valid for more than 400 days by the host's clock")]
    TooLong,
    #[error("the version was signed more than a day after now by the host's clock")]
    Ahead,
    #[error("the signature can't be read; it may be from a newer program")]
    Unreadable,
}

/// What a publisher can state. Each kind is signed as another one, so that no signature counts for two.
pub trait Statement: Serialize + DeserializeOwned {
    /// What a statement is signed as.
    const CONTEXT: &'static str;

    fn format(&self) -> u32;

    /// The key that signs.
    fn publisher(&self) -> AgentPublicKey;
}

impl Statement for SignedScript {
    const CONTEXT: &'static str = CONTEXT;

    fn format(&self) -> u32 {
        self.format
    }

    fn publisher(&self) -> AgentPublicKey {
        self.publisher
    }
}

impl ScriptSignature {
    /// Signs a statement. The same statement gives the same signature.
    pub fn sign<S: Statement>(signed: &S, pair: &AgentKeyPair) -> Self {
        // Plain data with string keys always serialises.
        let statement = serde_json::to_string(signed).unwrap_or_default();
        let signature = pair.sign(message::<S>(&statement).as_bytes());
        Self { statement, signature }
    }

    /// What the statement says, without a check of its signature.
    ///
    /// # Errors
    /// [`SignatureError::Unreadable`].
    pub fn read<S: Statement>(&self) -> Result<S, SignatureError> {
        let signed: S =
            serde_json::from_str(&self.statement).map_err(|_| SignatureError::Unreadable)?;
        let is_known = signed.format() == STATEMENT_FORMAT;
        if is_known { Ok(signed) } else { Err(SignatureError::Unreadable) }
    }

    /// What one of these publishers states.
    ///
    /// # Errors
    /// [`SignatureError::Unsigned`] if none of them has signed it.
    pub fn open<S: Statement>(&self, publishers: &[AgentPublicKey]) -> Result<S, SignatureError> {
        let bytes = message::<S>(&self.statement);
        let has_signed = |key: &&AgentPublicKey| key.has_signed(bytes.as_bytes(), &self.signature);
        let signer = publishers.iter().find(has_signed).ok_or(SignatureError::Unsigned)?;
        let signed: S = self.read()?;
        if signed.publisher() == *signer { Ok(signed) } else { Err(SignatureError::Unsigned) }
    }

    /// True if it is small enough to be stored and sent.
    pub fn is_bounded(&self) -> bool {
        self.statement.len() + self.signature.len() <= MAX_SIGNATURE_BYTES
    }
}

impl SignedScript {
    /// Checks that it is about this document, now.
    ///
    /// # Errors
    /// [`SignatureError`] names what differs.
    pub fn check(
        &self,
        document: &ScriptDocument,
        document_sha256: &str,
        now_ms: u64,
    ) -> Result<(), SignatureError> {
        if (self.name.as_str(), self.version) != (document.name.as_str(), document.version)
            || self.document_sha256 != document_sha256
        {
            return Err(SignatureError::Other);
        }
        check_expiry(self.expires_at_ms, now_ms)
    }
}

/// Checks that a statement holds now, and not for too long.
pub(crate) fn check_expiry(expires_at_ms: u64, now_ms: u64) -> Result<(), SignatureError> {
    if expires_at_ms <= now_ms {
        return Err(SignatureError::Expired);
    }
    if expires_at_ms - now_ms > MAX_SIGNATURE_LIFETIME_MS {
        return Err(SignatureError::TooLong);
    }
    Ok(())
}

/// Finds a statement of one of the publishers that allows this version now.
///
/// # Errors
/// [`SignatureError`], the most specific one if there are several signatures.
pub fn find_valid(
    signatures: &[ScriptSignature],
    publishers: &[AgentPublicKey],
    document: &ScriptDocument,
    document_text: &str,
    now_ms: u64,
) -> Result<SignedScript, SignatureError> {
    let document_sha256 = sha256_hex(document_text.as_bytes());
    find_statement(signatures, publishers, |signed: &SignedScript| {
        signed.check(document, &document_sha256, now_ms)
    })
}

/// Finds a statement of one of the publishers that passes a check.
///
/// # Errors
/// [`SignatureError`], the most specific one if there are several signatures.
pub(crate) fn find_statement<S: Statement>(
    signatures: &[ScriptSignature],
    publishers: &[AgentPublicKey],
    check: impl Fn(&S) -> Result<(), SignatureError>,
) -> Result<S, SignatureError> {
    let mut refusal = SignatureError::Unsigned;
    for signature in signatures.iter().take(super::content::MAX_SIGNATURES) {
        let opened = signature.open(publishers).and_then(|signed| {
            check(&signed)?;
            Ok(signed)
        });
        match opened {
            Ok(signed) => return Ok(signed),
            Err(SignatureError::Unsigned) => {}
            Err(error) => refusal = error,
        }
    }
    Err(refusal)
}

fn message<S: Statement>(statement: &str) -> SignedMessage {
    SignedMessage::new(S::CONTEXT).field(statement.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::super::tests::document;
    use super::*;

    fn pair(seed: u8) -> AgentKeyPair {
        AgentKeyPair::from_seed(&[seed; 32]).expect("a seed")
    }

    fn statement(pair: &AgentKeyPair) -> SignedScript {
        SignedScript {
            format: STATEMENT_FORMAT,
            publisher: pair.public_key(),
            name: "disk-report".into(),
            version: 3,
            document_sha256: sha256_hex(document().to_text().as_bytes()),
            minimum_version: 3,
            expires_at_ms: 2_000,
        }
    }

    fn find(signatures: &[ScriptSignature], now_ms: u64) -> Result<SignedScript, SignatureError> {
        let text = document().to_text();
        find_valid(signatures, &[pair(1).public_key()], &document(), &text, now_ms)
    }

    #[test]
    fn only_a_pinned_publisher_allows_a_version_and_only_until_it_expires() {
        let own = ScriptSignature::sign(&statement(&pair(1)), &pair(1));
        let other = ScriptSignature::sign(&statement(&pair(2)), &pair(2));
        assert_eq!(find(&[other.clone(), own.clone()], 1_000), Ok(statement(&pair(1))));
        assert_eq!(find(&[], 1_000), Err(SignatureError::Unsigned));
        assert_eq!(find(&[other], 1_000), Err(SignatureError::Unsigned));
        assert_eq!(find(std::slice::from_ref(&own), 2_000), Err(SignatureError::Expired));
        let long = SignedScript {
            expires_at_ms: 1_001 + MAX_SIGNATURE_LIFETIME_MS,
            ..statement(&pair(1))
        };
        let long = ScriptSignature::sign(&long, &pair(1));
        assert_eq!(find(&[long], 1_000), Err(SignatureError::TooLong));
        let mut changed = own;
        changed.statement = changed.statement.replace("2000", "9000");
        assert_eq!(find(&[changed], 1_000), Err(SignatureError::Unsigned));
    }

    #[test]
    fn a_signature_of_another_script_version_or_document_allows_nothing() {
        for change in [
            (|signed| signed.name = "other".into()) as fn(&mut SignedScript),
            |signed| signed.version = 2,
            |signed| signed.document_sha256 = sha256_hex(b"other"),
        ] {
            let mut signed = statement(&pair(1));
            change(&mut signed);
            let signature = ScriptSignature::sign(&signed, &pair(1));
            assert_eq!(find(&[signature], 1_000), Err(SignatureError::Other));
        }
        // A key that signs in the name of another.
        let signature = ScriptSignature::sign(&statement(&pair(2)), &pair(1));
        assert_eq!(find(&[signature], 1_000), Err(SignatureError::Unsigned));
    }
}
