//! Table `storage_usage`: what tenants store, as last measured.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::ids::TenantId;
use crate::domain::time::Timestamp;
use crate::store::entities::column::StoredUsage;

/// What a tenant stores. The nil id is the server as a whole.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "storage_usage")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: TenantId,
    pub measured_at: Timestamp,
    pub total_bytes: i64,
    /// What a quota counts: history and output.
    pub counted_bytes: i64,
    pub usage: StoredUsage,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
