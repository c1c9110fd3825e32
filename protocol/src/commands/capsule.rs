//! Approval capsules: what an approver signs about one command for one host, and how the host checks it.
//!
//! The signed bytes are a context and the document, exactly as the approver wrote it: JSON with the
//! fields of [`ApprovedCommand`]. Servers store and send it, and can neither make nor change one.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::identity::{AgentKeyPair, AgentPublicKey, Fingerprint, SignedMessage};

/// The version of the document.
pub const CAPSULE_VERSION: u32 = 1;
/// Size of a document with its signature.
pub const MAX_CAPSULE_BYTES: usize = 4 * 1024;
/// Longest validity that a host accepts: 31 days.
pub const MAX_CAPSULE_LIFETIME_MS: u64 = 31 * 24 * 3_600_000;
/// What a document is signed as.
const CONTEXT: &str = "muster capsule 1";

/// A signed document about one command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Capsule {
    /// JSON, byte for byte as it was signed.
    pub document: String,
    /// base64, by the approver's key pair.
    pub signature: String,
}

/// What an approver allows: one start of one command on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovedCommand {
    pub version: u32,
    /// The key that signs.
    pub approver: AgentPublicKey,
    pub command_id: Uuid,
    pub agent_id: Uuid,
    /// Of the host's own key pair. A server hands out ids, and can't hand out this.
    pub host: Fingerprint,
    /// `execute`, or a life-cycle command.
    pub command: String,
    /// Hex SHA-256 of the data of the command: [`data_sha256`].
    pub data_sha256: String,
    /// Hex SHA-256 of the file of the script; absent for other work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program_sha256: Option<String>,
    /// Of work with steps: hex SHA-256 of the file of each step's script, in their order; null for an ad-hoc
    /// command, whose words are part of the data.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub step_programs_sha256: Vec<Option<String>>,
    /// In milliseconds since the Unix epoch, by the host's clock.
    pub expires_at_ms: u64,
}

/// Why a capsule does not allow a command. The messages are shown to people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CapsuleError {
    #[error("no pinned approver has signed it, or it was changed")]
    Signature,
    #[error("it can't be read; it may be from a newer program")]
    Unreadable,
    #[error("it has version {0}, which this program does not know")]
    Version(u32),
    #[error("it is for another {0}")]
    Other(&'static str),
    #[error("it has expired by the host's clock")]
    Expired,
    #[error("it is valid for more than 31 days by the host's clock")]
    TooLong,
}

impl Capsule {
    /// Signs a document. The same document gives the same signature.
    pub fn sign(approved: &ApprovedCommand, pair: &AgentKeyPair) -> Self {
        // Plain data with string keys always serialises.
        let document = serde_json::to_string(approved).unwrap_or_default();
        let signature = pair.sign(message(&document).as_bytes());
        Self { document, signature }
    }

    /// What the holder of one of these keys allows.
    ///
    /// # Errors
    /// [`CapsuleError`] if none of them has signed it, or it can't be read.
    pub fn open(&self, approvers: &[AgentPublicKey]) -> Result<ApprovedCommand, CapsuleError> {
        let signed = message(&self.document);
        let has_signed = |key: &&AgentPublicKey| key.has_signed(signed.as_bytes(), &self.signature);
        let signer = approvers.iter().find(has_signed).ok_or(CapsuleError::Signature)?;
        let approved = self.read()?;
        if approved.approver == *signer { Ok(approved) } else { Err(CapsuleError::Signature) }
    }

    /// What the document states, without a check of its signature.
    ///
    /// # Errors
    /// [`CapsuleError`] if it can't be read.
    pub fn read(&self) -> Result<ApprovedCommand, CapsuleError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } =
            serde_json::from_str(&self.document).map_err(|_| CapsuleError::Unreadable)?;
        if version != CAPSULE_VERSION {
            return Err(CapsuleError::Version(version));
        }
        serde_json::from_str(&self.document).map_err(|_| CapsuleError::Unreadable)
    }

    /// True if it is small enough to be stored and sent.
    pub fn is_bounded(&self) -> bool {
        self.document.len() + self.signature.len() <= MAX_CAPSULE_BYTES
    }
}

impl ApprovedCommand {
    /// Checks that it is about this command on this host, now.
    ///
    /// # Errors
    /// [`CapsuleError`] names what differs.
    pub fn check(
        &self,
        (command_id, agent_id, host): (Uuid, Uuid, Fingerprint),
        command: &str,
        data: &Value,
        now_ms: u64,
    ) -> Result<(), CapsuleError> {
        let other = |what| Err(CapsuleError::Other(what));
        if self.command_id != command_id {
            return other("command");
        }
        if self.agent_id != agent_id {
            return other("agent");
        }
        if self.host != host {
            return other("host: it has another key pair");
        }
        if self.command != command {
            return other("kind of command");
        }
        if self.data_sha256 != data_sha256(data) {
            return other("script, program or parameters");
        }
        if self.expires_at_ms <= now_ms {
            return Err(CapsuleError::Expired);
        }
        if self.expires_at_ms - now_ms > MAX_CAPSULE_LIFETIME_MS {
            return Err(CapsuleError::TooLong);
        }
        Ok(())
    }
}

/// Hex SHA-256 of the data of a command, which does not depend on the order of its fields.
pub fn data_sha256(data: &Value) -> String {
    data_message(data, SignedMessage::new("muster command data 1")).sha256_hex()
}

fn data_message(value: &Value, message: SignedMessage) -> SignedMessage {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| *name);
            let message = message.field(b"object").field(&(fields.len() as u64).to_be_bytes());
            fields.into_iter().fold(message, |message, (name, value)| {
                data_message(value, message.field(name.as_bytes()))
            })
        }
        Value::Array(items) => {
            let message = message.field(b"array").field(&(items.len() as u64).to_be_bytes());
            items.iter().fold(message, |message, item| data_message(item, message))
        }
        Value::String(text) => message.field(b"string").field(text.as_bytes()),
        // Numbers, booleans and null have one text each.
        plain => message.field(b"plain").field(plain.to_string().as_bytes()),
    }
}

fn message(document: &str) -> SignedMessage {
    SignedMessage::new(CONTEXT).field(document.as_bytes())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pair(seed: u8) -> AgentKeyPair {
        AgentKeyPair::from_seed(&[seed; 32]).expect("a seed")
    }

    fn host() -> Fingerprint {
        pair(9).public_key().fingerprint()
    }

    fn approved(pair: &AgentKeyPair) -> ApprovedCommand {
        ApprovedCommand {
            version: CAPSULE_VERSION,
            approver: pair.public_key(),
            command_id: Uuid::from_u128(1),
            agent_id: Uuid::from_u128(2),
            host: host(),
            command: "execute".into(),
            data_sha256: data_sha256(&json!({"script": "deploy", "parameters": {"A": "1"}})),
            program_sha256: Some("ab".repeat(32)),
            step_programs_sha256: vec![],
            expires_at_ms: 1_000,
        }
    }

    #[test]
    fn a_capsule_opens_with_a_pinned_key_only_and_only_unchanged() {
        let (own, other) = (pair(1), pair(2));
        let capsule = Capsule::sign(&approved(&own), &own);
        let pins = [other.public_key(), own.public_key()];
        assert_eq!(capsule.open(&pins), Ok(approved(&own)));
        let refused = Err(CapsuleError::Signature);
        assert_eq!(capsule.open(&pins[..1]), refused);
        assert_eq!(capsule.open(&[]), refused);
        let document = capsule.document.replace("execute", "restart");
        assert_eq!(Capsule { document, ..capsule.clone() }.open(&pins), refused);
        // One approver can't speak for another, and a proof of another kind is no capsule.
        assert_eq!(Capsule::sign(&approved(&own), &other).open(&pins), refused);
        let document = capsule.document;
        let signature = own
            .sign(SignedMessage::new("muster attestation 1").field(document.as_bytes()).as_bytes());
        assert_eq!(Capsule { document, signature }.open(&pins), refused);
    }

    #[test]
    fn a_capsule_allows_exactly_one_command_on_one_host_until_it_expires() {
        let approved = approved(&pair(1));
        let (id, agent) = (approved.command_id, approved.agent_id);
        let data = json!({"parameters": {"A": "1"}, "script": "deploy"});
        let check = |ids, command, data: &Value, now_ms| approved.check(ids, command, data, now_ms);
        let ids = (id, agent, host());
        assert_eq!(check(ids, "execute", &data, 999), Ok(()));
        let other_host = pair(8).public_key().fingerprint();
        for (ids, command) in [
            ((agent, agent, host()), "execute"),
            ((id, id, host()), "execute"),
            ((id, agent, other_host), "execute"),
            (ids, "restart"),
        ] {
            let refused = check(ids, command, &data, 0);
            assert!(matches!(refused, Err(CapsuleError::Other(_))), "{refused:?}");
        }
        for changed in [
            json!({"script": "deploy", "parameters": {"A": "2"}}),
            json!({"script": "deploy", "parameters": {"A": "1"}, "secret_parameters": {"B": "2"}}),
            json!({"script": "deploy"}),
            json!(null),
        ] {
            let refused = check(ids, "execute", &changed, 0);
            assert!(matches!(refused, Err(CapsuleError::Other(_))), "{changed}");
        }
        assert_eq!(check(ids, "execute", &data, 1_000), Err(CapsuleError::Expired));
        let long = ApprovedCommand { expires_at_ms: u64::MAX, ..approved.clone() };
        assert_eq!(long.check(ids, "execute", &data, 0), Err(CapsuleError::TooLong));
    }

    #[test]
    fn different_data_never_has_the_same_hash() {
        let values = [
            json!({"a": "1"}),
            json!({"a": 1}),
            json!({"a": ["1"]}),
            json!({"a": {"1": null}}),
            json!({"a": "1", "b": {}}),
            json!({"a": {"b": {}}}),
            json!(["a", "1"]),
            json!(null),
            json!("null"),
        ];
        let hashes: std::collections::BTreeSet<_> = values.iter().map(data_sha256).collect();
        assert_eq!(hashes.len(), values.len());
    }

    #[test]
    fn a_document_of_another_version_is_named_and_not_guessed() {
        let pair = pair(1);
        let newer = ApprovedCommand { version: 2, ..approved(&pair) };
        let capsule = Capsule::sign(&newer, &pair);
        assert_eq!(capsule.open(&[pair.public_key()]), Err(CapsuleError::Version(2)));
    }
}
