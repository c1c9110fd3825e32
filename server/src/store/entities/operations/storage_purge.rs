//! Table `storage_purges`: the last request of each tenant to delete its old history.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::ids::{PrincipalId, TenantId};
use crate::domain::operations::storage::purge::StoragePurge;
use crate::domain::time::Timestamp;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "storage_purges")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: TenantId,
    pub history_before: Timestamp,
    pub requested_by: PrincipalId,
    pub requested_at: Timestamp,
    pub finished_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for StoragePurge {
    fn from(row: Model) -> Self {
        let Model { tenant_id, history_before, requested_by, requested_at, finished_at } = row;
        Self { tenant_id, history_before, requested_by, requested_at, finished_at }
    }
}

impl From<StoragePurge> for Model {
    fn from(purge: StoragePurge) -> Self {
        let StoragePurge { tenant_id, history_before, requested_by, requested_at, finished_at } =
            purge;
        Self { tenant_id, history_before, requested_by, requested_at, finished_at }
    }
}
