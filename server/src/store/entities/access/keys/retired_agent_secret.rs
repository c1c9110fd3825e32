//! Table `retired_agent_secrets`: hashes of invalid agent keys, so that agents learn why they are
//! refused.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::ids::{AgentKeyId, TenantId};
use crate::domain::time::Timestamp;

/// The hash of an invalid agent key.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "retired_agent_secrets")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub secret_hash: Vec<u8>,
    pub tenant_id: TenantId,
    pub key_id: AgentKeyId,
    pub is_deleted: bool,
    pub retired_at: Timestamp,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
