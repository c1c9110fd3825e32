//! Table `identities`: people as providers of single sign-on know them.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::access::records::IdentityRecord;
use crate::domain::ids::{IdentityId, TenantId, UserId};
use crate::domain::time::Timestamp;

/// A person at a provider. It is unique by issuer and subject, and an address is never part of it.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "identities")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: IdentityId,
    pub user_id: UserId,
    pub issuer: String,
    pub subject: String,
    pub created_at: Timestamp,
    /// The tenant in which the person is a member because the provider grants it.
    pub follows_in: Option<TenantId>,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for IdentityRecord {
    fn from(row: Model) -> Self {
        Self {
            id: row.id,
            issuer: row.issuer,
            subject: row.subject,
            created_at: row.created_at,
            follows_in: row.follows_in,
        }
    }
}
