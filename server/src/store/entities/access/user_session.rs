//! Table `user_sessions`: members who are signed in, each on one device.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::ids::{MemberId, SessionId, TenantId};
use crate::domain::time::Timestamp;

/// A member who is signed in. Its refresh tokens are one family.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "user_sessions")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: SessionId,
    pub tenant_id: TenantId,
    pub member_id: MemberId,
    pub created_at: Timestamp,
    /// When it was last refreshed.
    pub refreshed_at: Timestamp,
    /// When its last refresh token expires.
    pub expires_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
    /// The address of the sign-in.
    pub source: Option<String>,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
