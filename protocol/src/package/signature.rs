//! What a publisher signs about a version of a package, offline, and how a host checks it.

use serde::{Deserialize, Serialize};

use super::PackageDocument;
use crate::identity::AgentPublicKey;
use crate::library::{
    ScriptSignature, SignatureError, Statement, check_expiry, find_statement, sha256_hex,
};

/// Most signatures of one version of a package. Those of all that is assigned to an agent fit into a frame.
pub const MAX_PACKAGE_SIGNATURES: usize = 4;
/// How far the rank of a version may be ahead of a host's clock: a publisher whose clock was wrong must not
/// make all its other versions too old.
const MAX_RANK_AHEAD_MS: u64 = 24 * 3_600_000;

/// What a publisher states: hosts that trust this key may run this version of the package.
///
/// Versions are texts without an order, so the publisher gives each one a rank: when it signed the version
/// first, in milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedPackage {
    pub format: u32,
    /// The key that signs.
    pub publisher: AgentPublicKey,
    /// Without the prefix `package:`.
    pub name: String,
    pub version: String,
    /// Hex SHA-256 of the document, which has everything of `muster.toml` and the SHA-256 of the archive.
    pub document_sha256: String,
    pub rank: u64,
    /// A host that has accepted this statement runs no version of a lower rank any more.
    pub minimum_rank: u64,
    /// In milliseconds since the Unix epoch, by the host's clock.
    pub expires_at_ms: u64,
}

impl Statement for SignedPackage {
    const CONTEXT: &'static str = "muster package 1";

    fn format(&self) -> u32 {
        self.format
    }

    fn publisher(&self) -> AgentPublicKey {
        self.publisher
    }
}

impl SignedPackage {
    /// True if it is about the version with this document.
    pub fn is_about(&self, document: &PackageDocument, document_sha256: &str) -> bool {
        (&self.name, &self.version) == (&document.name, &document.version)
            && self.document_sha256 == document_sha256
    }

    fn check(
        &self,
        document: &PackageDocument,
        document_sha256: &str,
        now_ms: u64,
    ) -> Result<(), SignatureError> {
        if !self.is_about(document, document_sha256) {
            return Err(SignatureError::Other);
        }
        if self.rank > now_ms.saturating_add(MAX_RANK_AHEAD_MS) {
            return Err(SignatureError::Ahead);
        }
        check_expiry(self.expires_at_ms, now_ms)
    }
}

/// Finds a statement of one of the publishers that allows this version of a package now.
///
/// # Errors
/// [`SignatureError`], the most specific one if there are several signatures.
pub fn find_package_statement(
    signatures: &[ScriptSignature],
    publishers: &[AgentPublicKey],
    document: &PackageDocument,
    document_text: &str,
    now_ms: u64,
) -> Result<SignedPackage, SignatureError> {
    let document_sha256 = sha256_hex(document_text.as_bytes());
    find_statement(signatures, publishers, |signed: &SignedPackage| {
        signed.check(document, &document_sha256, now_ms)
    })
}

#[cfg(test)]
mod tests {
    use super::super::document::tests::document;
    use super::*;
    use crate::identity::AgentKeyPair;
    use crate::library::{MAX_SIGNATURE_LIFETIME_MS, STATEMENT_FORMAT, SignedScript};

    const NOW_MS: u64 = 1_000;

    fn pair(seed: u8) -> AgentKeyPair {
        AgentKeyPair::from_seed(&[seed; 32]).expect("a seed")
    }

    fn statement(pair: &AgentKeyPair) -> SignedPackage {
        SignedPackage {
            format: STATEMENT_FORMAT,
            publisher: pair.public_key(),
            name: "backup".into(),
            version: "1.2.0".into(),
            document_sha256: sha256_hex(document().to_text().as_bytes()),
            rank: 500,
            minimum_rank: 500,
            expires_at_ms: 2_000,
        }
    }

    fn find(signature: ScriptSignature) -> Result<SignedPackage, SignatureError> {
        let (text, publishers) = (document().to_text(), [pair(1).public_key()]);
        find_package_statement(&[signature], &publishers, &document(), &text, NOW_MS)
    }

    fn find_changed(change: fn(&mut SignedPackage)) -> Result<SignedPackage, SignatureError> {
        let mut changed = statement(&pair(1));
        change(&mut changed);
        find(ScriptSignature::sign(&changed, &pair(1)))
    }

    #[test]
    fn only_a_pinned_publisher_allows_this_version_of_this_package_in_time() {
        assert_eq!(find_changed(|_| {}), Ok(statement(&pair(1))));
        let other = ScriptSignature::sign(&statement(&pair(2)), &pair(2));
        assert_eq!(find(other), Err(SignatureError::Unsigned));
        // A key that signs in the name of another.
        let other = ScriptSignature::sign(&statement(&pair(2)), &pair(1));
        assert_eq!(find(other), Err(SignatureError::Unsigned));
        assert_eq!(find_changed(|it| it.name = "other".into()), Err(SignatureError::Other));
        assert_eq!(find_changed(|it| it.version = "1.2".into()), Err(SignatureError::Other));
        let document = |it: &mut SignedPackage| it.document_sha256 = sha256_hex(b"other");
        assert_eq!(find_changed(document), Err(SignatureError::Other));
        assert_eq!(find_changed(|it| it.expires_at_ms = NOW_MS), Err(SignatureError::Expired));
        let long =
            |it: &mut SignedPackage| it.expires_at_ms = 1 + NOW_MS + MAX_SIGNATURE_LIFETIME_MS;
        assert_eq!(find_changed(long), Err(SignatureError::TooLong));
        let ahead = |it: &mut SignedPackage| it.rank = 1 + NOW_MS + MAX_RANK_AHEAD_MS;
        assert_eq!(find_changed(ahead), Err(SignatureError::Ahead));
        assert_eq!(find_changed(|it| it.format = 2), Err(SignatureError::Unreadable));
    }

    #[test]
    fn a_signature_of_a_script_is_none_of_a_package_of_the_same_name() {
        let signed = statement(&pair(1));
        // The bytes of a statement about the package, signed as one about a script.
        #[derive(Serialize, Deserialize)]
        #[serde(transparent)]
        struct AsScript(SignedPackage);
        impl Statement for AsScript {
            const CONTEXT: &'static str = SignedScript::CONTEXT;
            fn format(&self) -> u32 {
                self.0.format
            }
            fn publisher(&self) -> AgentPublicKey {
                self.0.publisher
            }
        }
        let of_script = ScriptSignature::sign(&AsScript(signed.clone()), &pair(1));
        assert_eq!(of_script.statement, ScriptSignature::sign(&signed, &pair(1)).statement);
        assert_eq!(find(of_script), Err(SignatureError::Unsigned));
    }
}
