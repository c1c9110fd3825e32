//! Table `ladders`: what the work of a tenant needs by its reach.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::ids::{PrincipalId, TenantId};
use crate::domain::time::Timestamp;
use crate::store::entities::column::StoredLadder;

/// The ladder of a tenant. A tenant without a row has no steps.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "ladders")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: TenantId,
    pub steps: StoredLadder,
    pub changed_at: Timestamp,
    pub changed_by: PrincipalId,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
