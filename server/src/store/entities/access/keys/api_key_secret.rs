//! Table `api_key_secrets`: every secret that an API key has had, and who made it and so knows it. Rows
//! are only added.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::ids::{ApiKeyId, PrincipalId, SessionId, TenantId};
use crate::domain::time::Timestamp;

/// A secret of an API key. Only its hash is stored.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "api_key_secrets")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub secret_hash: Vec<u8>,
    pub tenant_id: TenantId,
    pub key_id: ApiKeyId,
    /// The key or the member that created or rotated the key; `None` for the first secret of a tenant.
    pub made_by: Option<PrincipalId>,
    /// The hash of the secret that the maker presented, if it is a key.
    pub made_with: Option<Vec<u8>>,
    /// The session of the maker, if it is a member.
    pub session_id: Option<SessionId>,
    pub created_at: Timestamp,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
