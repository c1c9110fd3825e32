//! What the API shows of stored rows.

use muster_protocol::library::{ScriptDocument, ScriptSignature};

use crate::domain::ids::{PrincipalId, ScriptId, ScriptVersionId, TenantId};
use crate::domain::time::Timestamp;

/// What submits a script later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptUse {
    /// `schedule`, `hook` or `assignment`.
    pub kind: &'static str,
    pub name: String,
}

/// A script of the library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptRecord {
    pub id: ScriptId,
    pub tenant_id: TenantId,
    pub name: String,
    /// Parts with `/` between them; empty at the top.
    pub folder: String,
    pub tags: Vec<String>,
    pub description: String,
    /// A `TargetSpec`, JSON.
    pub default_target: Option<String>,
    /// What runs if a request names no version.
    pub current_version: u32,
    /// The highest number.
    pub latest_version: u32,
    pub created_by: PrincipalId,
    pub created_at: Timestamp,
    pub changed_at: Timestamp,
}

/// A version, which never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptVersionRecord {
    pub id: ScriptVersionId,
    pub script_id: ScriptId,
    pub version: u32,
    /// A [`ScriptDocument`], byte for byte as hosts get it.
    pub document: String,
    pub body_bytes: i64,
    pub message: String,
    pub author_id: PrincipalId,
    pub created_at: Timestamp,
}

impl ScriptVersionRecord {
    /// What its document says.
    pub fn content(&self) -> Option<ScriptDocument> {
        serde_json::from_str(&self.document).ok()
    }
}

/// A version with its body and its signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptVersionContent {
    pub row: ScriptVersionRecord,
    pub body: String,
    pub signatures: Vec<ScriptSignature>,
}
