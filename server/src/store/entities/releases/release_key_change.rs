//! Table `release_key_changes`: statements by which one release key names the next.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};
use uuid::Uuid;

use crate::domain::ids::PrincipalId;
use crate::domain::time::Timestamp;

/// A statement of one key that another key signs releases from now on.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "release_key_changes")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub old_key: String,
    pub new_key: String,
    pub signature: String,
    pub created_at: Timestamp,
    pub created_by: PrincipalId,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
