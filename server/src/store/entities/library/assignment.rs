//! Table `assignments`: packages that are wanted on targets.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::ids::{AssignmentId, PackageId, PrincipalId, TenantId};
use crate::domain::library::assignment_records::{AssignedKind, AssignmentRecord};
use crate::domain::time::Timestamp;

/// An assignment.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "assignments")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: AssignmentId,
    pub tenant_id: TenantId,
    pub name: String,
    pub package_id: PackageId,
    pub package_name: String,
    pub package_version: String,
    /// `task` or `service`.
    pub kind: AssignedKind,
    /// A `TargetSpec`, JSON.
    pub target: String,
    /// JSON.
    pub parameters: String,
    pub created_by: PrincipalId,
    pub created_at: Timestamp,
    pub changed_at: Timestamp,
    pub deleted_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for AssignmentRecord {
    fn from(row: Model) -> Self {
        Self {
            id: row.id,
            tenant_id: row.tenant_id,
            name: row.name,
            package_id: row.package_id,
            package_name: row.package_name,
            package_version: row.package_version,
            kind: row.kind,
            target: row.target,
            parameters: row.parameters,
            created_by: row.created_by,
            created_at: row.created_at,
            changed_at: row.changed_at,
            deleted_at: row.deleted_at,
        }
    }
}

impl From<AssignmentRecord> for Model {
    fn from(record: AssignmentRecord) -> Self {
        Self {
            id: record.id,
            tenant_id: record.tenant_id,
            name: record.name,
            package_id: record.package_id,
            package_name: record.package_name,
            package_version: record.package_version,
            kind: record.kind,
            target: record.target,
            parameters: record.parameters,
            created_by: record.created_by,
            created_at: record.created_at,
            changed_at: record.changed_at,
            deleted_at: record.deleted_at,
        }
    }
}
