//! Table `agent_keys`: keys with which agents enrol. Only their hashes are stored.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::access::records::AgentKeyRecord;
use crate::domain::ids::{AgentKeyId, TenantId};
use crate::domain::time::Timestamp;
use crate::store::entities::column::StringList;

/// A key with which agents enrol. Only its hash is stored.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "agent_keys")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: AgentKeyId,
    pub tenant_id: TenantId,
    pub name: String,
    pub prefix: String,
    pub secret_hash: Vec<u8>,
    pub previous_secret_hash: Option<Vec<u8>>,
    pub previous_valid_until: Option<Timestamp>,
    pub permissions: StringList,
    pub tags: StringList,
    pub max_agents: i32,
    /// Its holders may take over each other's offline agents by what they claim.
    pub trusts_holders: bool,
    pub is_disabled: bool,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for AgentKeyRecord {
    fn from(row: Model) -> Self {
        Self {
            id: row.id,
            name: row.name,
            prefix: row.prefix,
            permissions: row.permissions.0,
            tags: row.tags.0,
            max_agents: row.max_agents,
            is_disabled: row.is_disabled,
            trusts_holders: row.trusts_holders,
            created_at: row.created_at,
            expires_at: row.expires_at,
            previous_valid_until: row.previous_valid_until,
        }
    }
}
