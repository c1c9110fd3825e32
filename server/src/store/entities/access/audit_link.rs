//! Table `audit_links`: the hash chain over the audit entries of a tenant.

use muster_protocol::audit::{AuditHash, AuditLink, ENTRY_BYTES, LinkedEntry};
use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};
use uuid::Uuid;

use crate::domain::ids::TenantId;

/// The entries of one commit.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_links")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: TenantId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub number: i64,
    pub previous_hash: Vec<u8>,
    /// 48 bytes for each entry: its id and its digest.
    pub entries: Vec<u8>,
    pub hash: Vec<u8>,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// The row of a link.
    pub fn of(tenant_id: TenantId, link: &AuditLink) -> Self {
        let mut entries = Vec::with_capacity(link.entries.len() * ENTRY_BYTES);
        for entry in &link.entries {
            entries.extend_from_slice(entry.id.as_bytes());
            entries.extend_from_slice(entry.digest.as_bytes());
        }
        Self {
            tenant_id,
            number: link.number.cast_signed(),
            previous_hash: link.previous_hash.as_bytes().to_vec(),
            entries,
            hash: link.hash.as_bytes().to_vec(),
        }
    }
}

impl From<Model> for AuditLink {
    /// Bytes of another length, which this server never writes, become a link that does not verify.
    fn from(row: Model) -> Self {
        let entry = |bytes: &[u8]| {
            let (id, digest) = bytes.split_first_chunk::<16>()?;
            Some(LinkedEntry { id: Uuid::from_bytes(*id), digest: stored_hash(digest) })
        };
        Self {
            number: row.number.cast_unsigned(),
            previous_hash: stored_hash(&row.previous_hash),
            entries: row.entries.chunks(ENTRY_BYTES).filter_map(entry).collect(),
            hash: stored_hash(&row.hash),
        }
    }
}

/// A hash from a column; zeros, which no link has, if it has another length.
pub fn stored_hash(bytes: &[u8]) -> AuditHash {
    bytes.try_into().map(AuditHash::from_bytes).unwrap_or_default()
}
