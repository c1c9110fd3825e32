//! Table `hook_deliveries`: what was delivered to hooks, and what the server did about it.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::ids::{HookDeliveryId, HookId, JobId, TenantId};
use crate::domain::schedules::hook::{HookDeliveryRecord, HookDeliveryState};
use crate::domain::time::Timestamp;

/// A delivery. Its body is not stored.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "hook_deliveries")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: HookDeliveryId,
    pub tenant_id: TenantId,
    pub hook_id: HookId,
    pub delivery_key: Option<String>,
    pub is_test: bool,
    pub state: HookDeliveryState,
    pub detail: Option<String>,
    pub job_id: Option<JobId>,
    pub source: Option<String>,
    pub received_at: Timestamp,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for HookDeliveryRecord {
    fn from(row: Model) -> Self {
        Self {
            id: row.id,
            hook_id: row.hook_id,
            delivery_key: row.delivery_key,
            is_test: row.is_test,
            state: row.state,
            detail: row.detail,
            job_id: row.job_id,
            source: row.source,
            received_at: row.received_at,
        }
    }
}

impl Model {
    /// The row of a record.
    pub fn of(tenant_id: TenantId, record: HookDeliveryRecord) -> Self {
        Self {
            id: record.id,
            tenant_id,
            hook_id: record.hook_id,
            delivery_key: record.delivery_key,
            is_test: record.is_test,
            state: record.state,
            detail: record.detail,
            job_id: record.job_id,
            source: record.source,
            received_at: record.received_at,
        }
    }
}
