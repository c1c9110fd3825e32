//! Table `user_sessions`: members who are signed in, each on one device.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::access::records::UserSessionRecord;
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
    /// When its person last proved the password.
    pub confirmed_at: Timestamp,
    /// A passkey counts as password and second factor.
    pub confirmed_by_passkey: bool,
    /// Of the refresh token that is valid.
    pub refresh_hash: Vec<u8>,
    /// Of the one before it.
    pub previous_refresh_hash: Option<Vec<u8>>,
    pub revoked_at: Option<Timestamp>,
    /// The address of the sign-in.
    pub source: Option<String>,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for UserSessionRecord {
    fn from(row: Model) -> Self {
        Self {
            id: row.id,
            member_id: row.member_id,
            tenant_id: row.tenant_id,
            created_at: row.created_at,
            refreshed_at: row.refreshed_at,
            expires_at: row.expires_at,
            confirmed_at: row.confirmed_at,
            source: row.source,
        }
    }
}
