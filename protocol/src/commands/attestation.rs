//! Attestations: what an agent signs about an execution, and how it is checked without the server.
//!
//! The signed bytes are a context and the document, exactly as the agent wrote it: JSON with the
//! fields of [`AttestedExecution`]. It is stored as this text, never in another form.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::frame::{ExecuteResult, Outcome};
use crate::identity::{AgentKeyPair, AgentPublicKey, SignedMessage};

/// The version of the document.
pub const ATTESTATION_VERSION: u32 = 1;
/// Size of a document. Its texts are bounded by the manifest and by the protocol: 8 KiB, and 2 KiB for each
/// step.
pub const MAX_ATTESTATION_BYTES: usize = 48 * 1024;
/// What a document is signed as.
const CONTEXT: &str = "muster attestation 1";

/// A signed document about one execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Attestation {
    /// JSON, byte for byte as it was signed.
    pub document: String,
    /// base64, by the agent's key pair.
    pub signature: String,
}

/// What an agent states about one execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttestedExecution {
    pub version: u32,
    pub command_id: Uuid,
    pub agent_id: Uuid,
    /// The key that signs.
    pub public_key: AgentPublicKey,
    pub outcome: Outcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    /// Absent if nothing was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<AttestedRun>,
    /// Absent if nothing was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<ExecuteResult>,
}

/// What was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttestedRun {
    /// The script's name in the manifest, or `library:` and its name in the library; absent for an ad-hoc
    /// command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// The version of a script of the library, whose name then starts with `library:`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub library_version: Option<u32>,
    /// Hex SHA-256 of the script's file as it was before its start, or of the words of an ad-hoc
    /// command. Absent if the file could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program_sha256: Option<String>,
    /// Hex SHA-256 of the parameters of the request and of the names of its secret ones.
    pub parameters_sha256: String,
    /// Number of secret parameters of the request.
    #[serde(default)]
    pub secret_count: u32,
    /// Hex SHA-256 of the defaults that the manifest added, in the same form. Absent without any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults_sha256: Option<String>,
    /// What the host's policy allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// By the host's clock, in milliseconds since the Unix epoch.
    pub started_at_ms: u64,
    pub ended_at_ms: u64,
    /// Of an execution with steps: what each of them runs, in their order. `script` is then their title,
    /// and the other fields above about a file and parameters are about none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<AttestedStep>,
}

/// What one step runs. The fields are those of [`AttestedRun`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttestedStep {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub library_version: Option<u32>,
    /// Absent also for a step that was not started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program_sha256: Option<String>,
    pub parameters_sha256: String,
    #[serde(default)]
    pub secret_count: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults_sha256: Option<String>,
}

/// Why a document is not what the agent signed about an execution.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttestationError {
    #[error("the attestation is signed by another key pair, or its document was changed")]
    Signature,
    #[error("the attestation's document can't be read; it may be from a newer agent")]
    Unreadable,
    #[error("the attestation has version {0}, which this program does not know")]
    Version(u32),
}

impl Attestation {
    /// Signs a document. The same document gives the same signature.
    pub fn sign(execution: &AttestedExecution, pair: &AgentKeyPair) -> Self {
        // Plain data with string keys always serialises.
        let document = serde_json::to_string(execution).unwrap_or_default();
        let signature = pair.sign(message(&document).as_bytes());
        Self { document, signature }
    }

    /// What the holder of the key pair has stated.
    ///
    /// # Errors
    /// [`AttestationError`] if it is not signed by this key, or can't be read.
    pub fn open(&self, public_key: &AgentPublicKey) -> Result<AttestedExecution, AttestationError> {
        if !public_key.has_signed(message(&self.document).as_bytes(), &self.signature) {
            return Err(AttestationError::Signature);
        }
        self.read()
    }

    /// What the document states, without a check of its signature.
    ///
    /// # Errors
    /// [`AttestationError`] if it can't be read.
    pub fn read(&self) -> Result<AttestedExecution, AttestationError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } =
            serde_json::from_str(&self.document).map_err(|_| AttestationError::Unreadable)?;
        if version != ATTESTATION_VERSION {
            return Err(AttestationError::Version(version));
        }
        serde_json::from_str(&self.document).map_err(|_| AttestationError::Unreadable)
    }

    /// True if it is small enough to be stored.
    pub fn is_bounded(&self) -> bool {
        self.document.len() + self.signature.len() <= MAX_ATTESTATION_BYTES
    }
}

/// The attested form of an execution's parameters: names and values, and only the names of secrets.
/// Both in the order of their names.
pub fn parameters_message<'a>(
    parameters: impl ExactSizeIterator<Item = (&'a str, &'a str)>,
    secret_names: impl Iterator<Item = &'a str>,
) -> SignedMessage {
    let mut message =
        SignedMessage::new("muster parameters 1").field(&(parameters.len() as u64).to_be_bytes());
    for (name, value) in parameters {
        message = message.field(name.as_bytes()).field(value.as_bytes());
    }
    secret_names.fold(message, |message, name| message.field(name.as_bytes()))
}

/// The attested form of an ad-hoc command: its words.
pub fn words_message(words: &[String]) -> SignedMessage {
    let message = SignedMessage::new("muster words 1");
    words.iter().fold(message, |message, word| message.field(word.as_bytes()))
}

fn message(document: &str) -> SignedMessage {
    SignedMessage::new(CONTEXT).field(document.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn execution(pair: &AgentKeyPair) -> AttestedExecution {
        AttestedExecution {
            version: ATTESTATION_VERSION,
            command_id: Uuid::from_u128(1),
            agent_id: Uuid::from_u128(2),
            public_key: pair.public_key(),
            outcome: Outcome::Succeeded,
            error_code: None,
            run: None,
            result: None,
        }
    }

    #[test]
    fn an_attestation_opens_with_its_key_only_and_only_unchanged() {
        let pair = |seed| AgentKeyPair::from_seed(&[seed; 32]).expect("a seed");
        let (own, other) = (pair(1), pair(2));
        let attestation = Attestation::sign(&execution(&own), &own);
        assert_eq!(attestation, Attestation::sign(&execution(&own), &own));
        assert_eq!(attestation.open(&own.public_key()), Ok(execution(&own)));
        let refused = Err(AttestationError::Signature);
        assert_eq!(attestation.open(&other.public_key()), refused);
        let mut changed = attestation.clone();
        changed.document = changed.document.replace("succeeded", "failed");
        assert_eq!(changed.open(&own.public_key()), refused);
        // A proof of another kind is no attestation.
        let document = attestation.document;
        let signature = own.sign(SignedMessage::new("other").field(document.as_bytes()).as_bytes());
        assert_eq!(Attestation { document, signature }.open(&own.public_key()), refused);
    }

    #[test]
    fn a_document_of_another_version_is_named_and_not_guessed() {
        let pair = AgentKeyPair::from_seed(&[1; 32]).expect("a seed");
        let newer = AttestedExecution { version: 2, ..execution(&pair) };
        let attestation = Attestation::sign(&newer, &pair);
        assert_eq!(attestation.open(&pair.public_key()), Err(AttestationError::Version(2)));
    }
}
