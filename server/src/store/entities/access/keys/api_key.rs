//! Table `api_keys`: keys of API callers. Only their hashes are stored.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::access::keys::key_limits::KeyLimits;
use crate::domain::access::keys::key_rights::KeyRights;
use crate::domain::access::principal::{Role, Scope};
use crate::domain::access::records::{ApiKeyRecord, PreviousSecret};
use crate::domain::ids::{ApiKeyId, PrincipalId, TenantId};
use crate::domain::time::Timestamp;
use crate::store::entities::column::{StoredLimits, StringList};

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
    /// What it may start; `None` without limits.
    pub limits: Option<StoredLimits>,
    /// The secret before the last rotation, also after its end.
    pub previous_secret_hash: Option<Vec<u8>>,
    pub previous_prefix: Option<String>,
    pub previous_valid_until: Option<Timestamp>,
    /// Who rotated the key last.
    pub rotated_by: Option<PrincipalId>,
    /// When one of its secrets was last used. Written some seconds later.
    pub last_used_at: Option<Timestamp>,
    /// The same, for the secret before the last rotation.
    pub previous_used_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// The limits of the key.
    pub fn limits(&self) -> KeyLimits {
        self.limits.clone().unwrap_or_default().0
    }

    /// What the key may do: its scopes are at most those of its role.
    pub fn rights(&self) -> KeyRights {
        let listed = self.scopes.0.iter().filter_map(|scope| scope.parse().ok());
        let of_role = self.role.scopes();
        KeyRights {
            role: self.role,
            scopes: listed.filter(|scope: &Scope| of_role.contains(scope)).collect(),
            expires_at: self.expires_at,
            limits: self.limits(),
        }
    }

    /// The row with other rights.
    pub fn with_rights(self, rights: KeyRights) -> Self {
        Self {
            role: rights.role,
            scopes: StringList(rights.scopes.iter().map(Scope::to_string).collect()),
            expires_at: rights.expires_at,
            limits: (!rights.limits.is_empty()).then_some(StoredLimits(rights.limits)),
            ..self
        }
    }
}

impl From<Model> for ApiKeyRecord {
    fn from(row: Model) -> Self {
        let limits = row.limits();
        let previous = row.previous_prefix.zip(row.previous_valid_until);
        Self {
            id: row.id,
            name: row.name,
            prefix: row.prefix,
            role: row.role,
            scopes: row.scopes.0,
            created_at: row.created_at,
            created_by: row.created_by,
            created_by_name: None,
            expires_at: row.expires_at,
            limits,
            last_used_at: row.last_used_at,
            rotated_by: row.rotated_by,
            previous_secret: previous.map(|(prefix, valid_until)| PreviousSecret {
                prefix,
                valid_until,
                last_used_at: row.previous_used_at,
            }),
        }
    }
}
