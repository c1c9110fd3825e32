//! Files that were uploaded to be pushed to hosts.

use crate::domain::ids::{FileId, PrincipalId, TenantId};
use crate::domain::time::Timestamp;

/// An upload, complete or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadedFileRecord {
    pub id: FileId,
    pub tenant_id: TenantId,
    /// For people.
    pub name: String,
    /// Hex SHA-256 of the whole file.
    pub sha256: String,
    /// Size of the whole file.
    pub size_bytes: i64,
    /// Absent until all bytes are there and have the hash.
    pub completed_at: Option<Timestamp>,
    /// When it is deleted, unless it is used again.
    pub expires_at: Timestamp,
    pub created_by: PrincipalId,
    pub created_at: Timestamp,
}
