//! Table `packages`: the versions of packages. Rows never change. The archive is a file with the same id.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::ids::{PackageId, PrincipalId, TenantId};
use crate::domain::library::package_records::PackageRecord;
use crate::domain::time::Timestamp;

/// A version of a package.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "packages")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: PackageId,
    pub tenant_id: TenantId,
    pub name: String,
    pub version: String,
    pub document: String,
    pub sha256: String,
    pub format: String,
    pub archive_bytes: i64,
    pub unpacked_bytes: i64,
    pub entry_count: i64,
    pub created_by: PrincipalId,
    pub created_at: Timestamp,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for PackageRecord {
    fn from(row: Model) -> Self {
        Self {
            id: row.id,
            tenant_id: row.tenant_id,
            name: row.name,
            version: row.version,
            document: row.document,
            sha256: row.sha256,
            format: row.format,
            archive_bytes: row.archive_bytes,
            unpacked_bytes: row.unpacked_bytes,
            entry_count: row.entry_count,
            created_by: row.created_by,
            created_at: row.created_at,
        }
    }
}

impl From<PackageRecord> for Model {
    fn from(record: PackageRecord) -> Self {
        Self {
            id: record.id,
            tenant_id: record.tenant_id,
            name: record.name,
            version: record.version,
            document: record.document,
            sha256: record.sha256,
            format: record.format,
            archive_bytes: record.archive_bytes,
            unpacked_bytes: record.unpacked_bytes,
            entry_count: record.entry_count,
            created_by: record.created_by,
            created_at: record.created_at,
        }
    }
}
