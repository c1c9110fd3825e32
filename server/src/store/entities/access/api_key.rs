//! Table `api_keys`: keys of API callers. Only their hashes are stored.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::access::principal::Role;
use crate::domain::access::records::ApiKeyRecord;
use crate::domain::ids::{ApiKeyId, PrincipalId, TenantId};
use crate::domain::time::Timestamp;
use crate::store::entities::column::StringList;

/// A key of an API caller. Only its hash is stored.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "api_keys")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ApiKeyId,
    pub tenant_id: TenantId,
    pub name: String,
    pub prefix: String,
    pub secret_hash: Vec<u8>,
    pub role: Role,
    pub scopes: StringList,
    pub created_at: Timestamp,
    /// The key or the member that created it; `None` for the first one.
    pub created_by: Option<PrincipalId>,
    pub expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for ApiKeyRecord {
    fn from(row: Model) -> Self {
        Self {
            id: row.id,
            name: row.name,
            prefix: row.prefix,
            role: row.role,
            scopes: row.scopes.0,
            created_at: row.created_at,
            created_by: row.created_by,
            expires_at: row.expires_at,
        }
    }
}
