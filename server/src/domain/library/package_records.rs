//! What the API shows of stored packages.

use muster_protocol::package::PackageDocument;

use crate::domain::ids::{PackageId, PrincipalId, TenantId};
use crate::domain::time::Timestamp;

/// A version of a package, which never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageRecord {
    pub id: PackageId,
    pub tenant_id: TenantId,
    pub name: String,
    pub version: String,
    /// A [`PackageDocument`], byte for byte as hosts get it.
    pub document: String,
    /// Hex SHA-256 of the archive.
    pub sha256: String,
    /// `zip` or `tar.zst`.
    pub format: String,
    pub archive_bytes: i64,
    pub unpacked_bytes: i64,
    pub entry_count: i64,
    pub created_by: PrincipalId,
    pub created_at: Timestamp,
}

impl PackageRecord {
    /// What its document says.
    pub fn content(&self) -> Option<PackageDocument> {
        serde_json::from_str(&self.document).ok()
    }
}
