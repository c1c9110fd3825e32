//! Table `members`: people in tenants, each with one role.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::access::principal::Role;
use crate::domain::ids::{MemberId, TenantId, UserId};
use crate::domain::time::Timestamp;

/// A person in a tenant.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "members")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: MemberId,
    pub tenant_id: TenantId,
    pub user_id: UserId,
    pub role: Role,
    pub created_at: Timestamp,
    /// The row stays, because work names it.
    pub removed_at: Option<Timestamp>,
    /// The member who removed it; `None` if a provider or a change of the role ended it.
    pub removed_by: Option<MemberId>,
    /// True if the operator of the server made it an owner, with the set-up token or at the terminal.
    pub is_from_setup: bool,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
