//! The lines of an exported audit log.

use muster_protocol::audit::{
    AuditAnchor, AuditHead, AuditLink, BREAK_ACTION, EntryFields, StoredEntry,
};
use muster_protocol::identity::AgentPublicKey;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

/// One line of an export. Fields that are not hashed are ignored.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ExportedLine {
    Header {
        format: String,
        tenant_id: Uuid,
        after: u64,
        public_key: Option<AgentPublicKey>,
        is_complete: bool,
    },
    Anchor(AuditAnchor),
    Link(AuditLink),
    Entry(Box<EntryLine>),
    Head(AuditHead),
    End {},
}

#[derive(Deserialize)]
pub struct EntryLine {
    pub id: Uuid,
    pub link: u64,
    pub at: String,
    pub actor_kind: String,
    pub actor_id: Option<Uuid>,
    pub session_id: Option<Uuid>,
    pub action: String,
    pub subject_kind: String,
    pub subject_id: Option<Uuid>,
    pub detail: Value,
    pub source: Option<String>,
}

impl EntryLine {
    /// The entry with the digest of its fields.
    pub fn stored(&self, tenant_id: Uuid) -> StoredEntry {
        let digest = EntryFields {
            tenant_id,
            id: self.id,
            at: &self.at,
            actor_kind: &self.actor_kind,
            actor_id: self.actor_id,
            session_id: self.session_id,
            action: &self.action,
            subject_kind: &self.subject_kind,
            subject_id: self.subject_id,
            detail: &self.detail.to_string(),
            source: self.source.as_deref(),
        };
        let is_break = self.action == BREAK_ACTION;
        StoredEntry { id: self.id, link: self.link, digest: digest.digest(), is_break }
    }
}
