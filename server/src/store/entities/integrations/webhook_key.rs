//! Table `webhook_keys`: keys that sign a tenant's webhooks.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::ids::{TenantId, WebhookKeyId};
use crate::domain::time::Timestamp;

/// A key that the secrets of a tenant's URLs are derived from.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "webhook_keys")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: WebhookKeyId,
    pub tenant_id: TenantId,
    /// 32 bytes, sealed.
    pub sealed: Vec<u8>,
    pub created_at: Timestamp,
    /// Until when a replaced key also signs messages. `None` for the current key.
    pub valid_until: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
