//! Table `storage_days`: what tenants stored at the end of a day.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::ids::TenantId;
use crate::domain::operations::storage::forecast::DaySample;

/// What a tenant stored at the end of a day. The nil id is the server as a whole.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "storage_days")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: TenantId,
    /// Days since 1970, UTC.
    #[sea_orm(primary_key, auto_increment = false)]
    pub day: i64,
    pub total_bytes: i64,
    pub counted_bytes: i64,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for DaySample {
    fn from(row: Model) -> Self {
        Self {
            day: row.day,
            total_bytes: row.total_bytes.unsigned_abs(),
            counted_bytes: row.counted_bytes.unsigned_abs(),
        }
    }
}
