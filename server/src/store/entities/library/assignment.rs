//! Table `assignments`: packages and scripts that are wanted on targets.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::ids::{AssignmentId, ContentId, PrincipalId, TenantId};
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
    pub content_id: ContentId,
    pub content_name: String,
    pub content_version: String,
    /// `task`, `service` or `script`.
    pub kind: AssignedKind,
    /// Of a script: a `TaskSchedule`, JSON.
    pub schedule: Option<String>,
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
            content_id: row.content_id,
            content_name: row.content_name,
            content_version: row.content_version,
            kind: row.kind,
            schedule: row.schedule,
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
            content_id: record.content_id,
            content_name: record.content_name,
            content_version: record.content_version,
            kind: record.kind,
            schedule: record.schedule,
            target: record.target,
            parameters: record.parameters,
            created_by: record.created_by,
            created_at: record.created_at,
            changed_at: record.changed_at,
            deleted_at: record.deleted_at,
        }
    }
}
