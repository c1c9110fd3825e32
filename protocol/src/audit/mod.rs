//! The audit log as a hash chain: what is hashed and signed, and how a copy of a log is checked without
//! the server.
//!
//! The entries of one commit are one *link*. A link contains the hash of the link before it and the
//! digest of each of its entries. The server signs the hash of the last link, the *head*. A person
//! who keeps a copy of a head can later prove that what it covers was changed or removed.

mod chain_verifier;
mod hash;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::chain_verifier::{ChainVerifier, Finding, FindingKind, StoredEntry, VerifiedChain};
pub use self::hash::AuditHash;
use crate::identity::{AgentKeyPair, AgentPublicKey, SignedMessage};

/// The action of the entry that a server writes if it finds that the log before it was changed.
pub const BREAK_ACTION: &str = "audit.break";

/// The action of the entry that a server writes to each log when it replaces the key that signs them.
pub const KEY_CHANGE_ACTION: &str = "audit.change_key";

/// The format of an exported log, in its first line.
pub const EXPORT_FORMAT: &str = "muster audit 1";
/// Most entries of a link. A commit with more has several links.
pub const MAX_LINK_ENTRIES: usize = 512;

const ENTRY: &str = "muster audit entry 1";
const LINK: &str = "muster audit link 1";
const HEAD: &str = "muster audit head 1";
const ANCHOR: &str = "muster audit anchor 1";
const KEY_CHANGE: &str = "muster audit key 1";

/// The fields of an entry that are hashed, each as the text that the API shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryFields<'a> {
    pub tenant_id: Uuid,
    pub id: Uuid,
    /// RFC 3339 in UTC, with milliseconds.
    pub at: &'a str,
    pub actor_kind: &'a str,
    pub actor_id: Option<Uuid>,
    pub session_id: Option<Uuid>,
    pub action: &'a str,
    pub subject_kind: &'a str,
    pub subject_id: Option<Uuid>,
    /// JSON without spaces, with the keys of objects in order.
    pub detail: &'a str,
    pub source: Option<&'a str>,
}

impl EntryFields<'_> {
    /// The digest of an entry.
    pub fn digest(&self) -> AuditHash {
        let id = |id: Option<Uuid>| id.map(|id| id.to_string());
        let message = SignedMessage::new(ENTRY)
            .field(self.tenant_id.to_string().as_bytes())
            .field(self.id.to_string().as_bytes())
            .field(self.at.as_bytes())
            .field(self.actor_kind.as_bytes());
        let message = optional(message, id(self.actor_id).as_deref());
        let message = optional(message, id(self.session_id).as_deref())
            .field(self.action.as_bytes())
            .field(self.subject_kind.as_bytes());
        let message =
            optional(message, id(self.subject_id).as_deref()).field(self.detail.as_bytes());
        AuditHash::of(&optional(message, self.source))
    }
}

/// A field that may be null: `0`, or `1` and the text.
fn optional(message: SignedMessage, text: Option<&str>) -> SignedMessage {
    match text {
        None => message.field(b"0"),
        Some(text) => message.field(b"1").field(text.as_bytes()),
    }
}

/// An entry as a link names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkedEntry {
    pub id: Uuid,
    pub digest: AuditHash,
}

/// The entries of one commit, in the order of their ids, behind those of earlier commits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLink {
    /// 1 for the first link of a tenant.
    pub number: u64,
    /// The hash of the link before it; zeros for the first.
    pub previous_hash: AuditHash,
    pub entries: Vec<LinkedEntry>,
    pub hash: AuditHash,
}

impl AuditLink {
    /// The link behind another one.
    pub fn new(
        tenant_id: Uuid,
        number: u64,
        previous_hash: AuditHash,
        entries: Vec<LinkedEntry>,
    ) -> Self {
        let hash = AuditHash::default();
        let link = Self { number, previous_hash, entries, hash };
        Self { hash: link.computed_hash(tenant_id), ..link }
    }

    /// The hash that the other fields have.
    pub fn computed_hash(&self, tenant_id: Uuid) -> AuditHash {
        let mut entries = Vec::with_capacity(self.entries.len() * ENTRY_BYTES);
        for entry in &self.entries {
            entries.extend_from_slice(entry.id.as_bytes());
            entries.extend_from_slice(entry.digest.as_bytes());
        }
        let message = SignedMessage::new(LINK)
            .field(tenant_id.as_bytes())
            .field(&self.number.to_be_bytes())
            .field(self.previous_hash.as_bytes())
            .field(&entries);
        AuditHash::of(&message)
    }
}

/// Bytes of an entry in the hashed form of a link: its id and its digest.
pub const ENTRY_BYTES: usize = 16 + 32;

/// The last link of a log, signed by the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuditHead {
    pub tenant_id: Uuid,
    /// The number of the link.
    pub number: u64,
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub hash: AuditHash,
    /// The server's key for audit logs, in base64.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub public_key: AgentPublicKey,
    /// Ed25519, in base64.
    pub signature: String,
}

/// Where the log starts after its older links were removed by retention, signed by the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditAnchor {
    pub tenant_id: Uuid,
    /// The last link that was removed.
    pub number: u64,
    pub hash: AuditHash,
    pub public_key: AgentPublicKey,
    pub signature: String,
}

/// That one key of a server is followed by another one, signed with the key that is replaced. The detail of an
/// entry [`KEY_CHANGE_ACTION`]: a person who trusts the previous key can trust the new one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditKeyChange {
    pub previous_public_key: AgentPublicKey,
    pub public_key: AgentPublicKey,
    /// Ed25519, in base64.
    pub signature: String,
}

impl AuditKeyChange {
    /// Signs the change with the previous key.
    pub fn sign(previous: &AgentKeyPair, public_key: AgentPublicKey) -> Self {
        let previous_public_key = previous.public_key();
        let message = key_change(previous_public_key, public_key);
        Self { previous_public_key, public_key, signature: previous.sign(message.as_bytes()) }
    }

    /// True if the previous key has signed it. Says nothing about whose key that is.
    pub fn is_signed(&self) -> bool {
        let message = key_change(self.previous_public_key, self.public_key);
        self.previous_public_key.has_signed(message.as_bytes(), &self.signature)
    }
}

fn key_change(previous: AgentPublicKey, next: AgentPublicKey) -> SignedMessage {
    SignedMessage::new(KEY_CHANGE)
        .field(previous.to_string().as_bytes())
        .field(next.to_string().as_bytes())
}

macro_rules! signed_position {
    ($name:ident, $context:expr) => {
        impl $name {
            /// Signs a position in the log of a tenant.
            pub fn sign(
                pair: &AgentKeyPair,
                tenant_id: Uuid,
                number: u64,
                hash: AuditHash,
            ) -> Self {
                let signature = pair.sign(position($context, tenant_id, number, hash).as_bytes());
                Self { tenant_id, number, hash, public_key: pair.public_key(), signature }
            }

            /// True if its key has signed it. Says nothing about whose key that is.
            pub fn is_signed(&self) -> bool {
                let message = position($context, self.tenant_id, self.number, self.hash);
                self.public_key.has_signed(message.as_bytes(), &self.signature)
            }
        }
    };
}

signed_position!(AuditHead, HEAD);
signed_position!(AuditAnchor, ANCHOR);

fn position(context: &str, tenant_id: Uuid, number: u64, hash: AuditHash) -> SignedMessage {
    SignedMessage::new(context)
        .field(tenant_id.as_bytes())
        .field(&number.to_be_bytes())
        .field(hash.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_the_key_is_signed_by_the_previous_key_alone() {
        let pair = |byte| AgentKeyPair::from_seed(&[byte; 32]).expect("a seed");
        let change = AuditKeyChange::sign(&pair(1), pair(2).public_key());
        assert!(change.is_signed());
        let other = pair(3).public_key();
        assert!(!AuditKeyChange { public_key: other, ..change.clone() }.is_signed());
        assert!(!AuditKeyChange { previous_public_key: other, ..change }.is_signed());
    }

    fn fields() -> EntryFields<'static> {
        EntryFields {
            tenant_id: Uuid::from_u128(1),
            id: Uuid::from_u128(2),
            at: "2026-01-01T00:00:00.000Z",
            actor_kind: "api_key",
            actor_id: Some(Uuid::from_u128(3)),
            session_id: None,
            action: "agent.update",
            subject_kind: "agent",
            subject_id: Some(Uuid::from_u128(4)),
            detail: "{}",
            source: Some("192.0.2.1"),
        }
    }

    #[test]
    fn every_field_of_an_entry_is_in_its_digest() {
        let other = Uuid::from_u128(9);
        let changes: [fn(&mut EntryFields<'static>, Uuid); 12] = [
            |fields, other| fields.tenant_id = other,
            |fields, other| fields.id = other,
            |fields, _| fields.at = "2026-01-01T00:00:00.001Z",
            |fields, _| fields.actor_kind = "system",
            |fields, _| fields.actor_id = None,
            |fields, other| fields.session_id = Some(other),
            |fields, _| fields.action = "agent.delete",
            |fields, _| fields.subject_kind = "group",
            |fields, other| fields.subject_id = Some(other),
            |fields, _| fields.detail = "{ }",
            |fields, _| fields.source = None,
            |fields, _| fields.source = Some(""),
        ];
        let mut digests = vec![fields().digest()];
        for change in changes {
            let mut changed = fields();
            change(&mut changed, other);
            digests.push(changed.digest());
        }
        let count = digests.len();
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), count);
    }

    #[test]
    fn the_canonical_bytes_stay_as_they_are_documented() {
        let entry = LinkedEntry { id: fields().id, digest: fields().digest() };
        let link = AuditLink::new(Uuid::from_u128(1), 1, AuditHash::default(), vec![entry]);
        // Computed by a program of another language, from the description in docs/SECURITY.md.
        let digest = "84b04d46b40bc7aca76828b55804aacad07a3dad0b730a5f1311ddf1e05fa6df";
        let hash = "c978d40a262751e60335286da875a8e46a8f3cde30878f6cc11c8415b343cf5d";
        assert_eq!((entry.digest.to_string(), link.hash.to_string()), (digest.into(), hash.into()));
    }

    #[test]
    fn a_head_is_valid_for_its_tenant_number_and_hash_and_is_no_anchor() {
        let pair = AgentKeyPair::from_seed(&[1; 32]).expect("a seed");
        let (tenant_id, hash) = (Uuid::from_u128(1), fields().digest());
        let head = AuditHead::sign(&pair, tenant_id, 7, hash);
        assert!(head.is_signed());
        assert!(!AuditHead { number: 6, ..head.clone() }.is_signed());
        assert!(!AuditHead { tenant_id: Uuid::from_u128(2), ..head.clone() }.is_signed());
        assert!(!AuditHead { hash: AuditHash::default(), ..head.clone() }.is_signed());
        let AuditHead { tenant_id, number, hash, public_key, signature } = head;
        assert!(!AuditAnchor { tenant_id, number, hash, public_key, signature }.is_signed());
    }
}
