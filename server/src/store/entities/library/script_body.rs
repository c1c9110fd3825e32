//! Table `script_bodies`: the texts of versions, apart because lists do not read them.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::ids::{ScriptVersionId, TenantId};

/// The body of the version with this id.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "script_bodies")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ScriptVersionId,
    pub tenant_id: TenantId,
    pub body: String,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
