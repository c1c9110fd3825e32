//! Table `uploaded_files`: files that were uploaded to be pushed to hosts. The bytes are a file with the same
//! id.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::ids::{FileId, PrincipalId, TenantId};
use crate::domain::library::uploaded_file::UploadedFileRecord;
use crate::domain::time::Timestamp;

/// An upload, complete or not.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "uploaded_files")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: FileId,
    pub tenant_id: TenantId,
    pub name: String,
    pub sha256: String,
    pub size_bytes: i64,
    pub completed_at: Option<Timestamp>,
    pub expires_at: Timestamp,
    pub created_by: PrincipalId,
    pub created_at: Timestamp,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for UploadedFileRecord {
    fn from(row: Model) -> Self {
        Self {
            id: row.id,
            tenant_id: row.tenant_id,
            name: row.name,
            sha256: row.sha256,
            size_bytes: row.size_bytes,
            completed_at: row.completed_at,
            expires_at: row.expires_at,
            created_by: row.created_by,
            created_at: row.created_at,
        }
    }
}

impl From<UploadedFileRecord> for Model {
    fn from(record: UploadedFileRecord) -> Self {
        Self {
            id: record.id,
            tenant_id: record.tenant_id,
            name: record.name,
            sha256: record.sha256,
            size_bytes: record.size_bytes,
            completed_at: record.completed_at,
            expires_at: record.expires_at,
            created_by: record.created_by,
            created_at: record.created_at,
        }
    }
}
