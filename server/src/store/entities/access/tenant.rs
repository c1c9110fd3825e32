//! Table `tenants`: isolated customers.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::access::tenants::plan::Plan;
use crate::domain::access::tenants::tenant::TenantRecord;
use crate::domain::ids::TenantId;
use crate::domain::time::Timestamp;

/// An isolated customer.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "tenants")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: TenantId,
    pub name: String,
    /// Which limits it has.
    pub plan: Plan,
    pub created_at: Timestamp,
    /// When everything of it is deleted; `None` unless that was asked for.
    pub delete_at: Option<Timestamp>,
    /// True if the operator asked for it; then only the operator withdraws it.
    pub is_deleted_by_operator: bool,
    /// True if members with a password may do nothing without a second factor.
    pub requires_second_factor: bool,
    /// True if the schedules of members who left pass to an owner. Otherwise they stop.
    pub passes_schedules_on: bool,
    /// How many bytes of history and output it may store; `None`: what its plan allows.
    pub storage_quota_bytes: Option<i64>,
    /// Size of the manifests that its agents reported, and how many scripts they list.
    pub manifest_bytes: i64,
    pub manifest_scripts: i64,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for TenantRecord {
    fn from(row: Model) -> Self {
        Self {
            id: row.id,
            name: row.name,
            plan: row.plan,
            created_at: row.created_at,
            delete_at: row.delete_at,
            requires_second_factor: row.requires_second_factor,
            passes_schedules_on: row.passes_schedules_on,
            storage_quota_bytes: row.storage_quota_bytes.map(i64::unsigned_abs),
        }
    }
}
