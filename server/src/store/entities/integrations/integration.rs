//! Table `integrations`: where events of a tenant are sent.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::ids::{IntegrationId, PrincipalId, TenantId};
use crate::domain::integrations::integration::{IntegrationKind, IntegrationRecord};
use crate::domain::time::Timestamp;
use crate::store::entities::column::{StoredEventTypes, StoredSettings};

/// An integration. The first of its queue is `pending`, the others are `queued`.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "integrations")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: IntegrationId,
    pub tenant_id: TenantId,
    pub kind: IntegrationKind,
    pub name: String,
    pub host: String,
    /// Settings that are no secrets.
    pub shown: StoredSettings,
    /// All settings.
    pub sealed: Vec<u8>,
    pub event_types: StoredEventTypes,
    /// A `TargetSpec`, JSON.
    pub target: Option<String>,
    pub template: Option<String>,
    pub is_enabled: bool,
    pub offline_after_ms: i64,
    pub failing_since: Option<Timestamp>,
    pub retry_at: Option<Timestamp>,
    pub last_error: Option<String>,
    pub queue_changes: i64,
    pub created_by: PrincipalId,
    pub created_at: Timestamp,
    pub changed_at: Timestamp,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for IntegrationRecord {
    fn from(row: Model) -> Self {
        Self {
            id: row.id,
            tenant_id: row.tenant_id,
            kind: row.kind,
            name: row.name,
            host: row.host,
            shown: row.shown.0,
            event_types: row.event_types.0,
            target: row.target.and_then(|target| serde_json::from_str(&target).ok()),
            template: row.template,
            is_enabled: row.is_enabled,
            offline_after_ms: row.offline_after_ms,
            failing_since: row.failing_since,
            retry_at: row.retry_at,
            last_error: row.last_error,
            created_by: row.created_by,
            created_at: row.created_at,
            changed_at: row.changed_at,
        }
    }
}
