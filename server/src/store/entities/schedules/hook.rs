//! Table `hooks`: jobs that start when another program asks for it.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::ids::{HookId, PrincipalId, TenantId};
use crate::domain::schedules::hook::{HookAuthentication, HookRecord};
use crate::domain::time::Timestamp;

/// A hook.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "hooks")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: HookId,
    pub tenant_id: TenantId,
    pub name: String,
    pub authentication: HookAuthentication,
    /// A `JobTemplate`, JSON.
    pub job: String,
    /// JSON pointers by the name of the parameter, JSON.
    pub parameters: String,
    /// Expected texts by JSON pointer, JSON.
    pub conditions: String,
    pub replay_window_ms: i64,
    pub is_enabled: bool,
    pub owner_id: PrincipalId,
    pub created_by: PrincipalId,
    pub created_at: Timestamp,
    pub changed_at: Timestamp,
    /// The secret, sealed.
    pub sealed: Vec<u8>,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// The row of a record with its sealed secret.
    pub fn of(record: HookRecord, sealed: Vec<u8>) -> Self {
        Self {
            id: record.id,
            tenant_id: record.tenant_id,
            name: record.name,
            authentication: record.authentication,
            job: record.job,
            parameters: record.parameters,
            conditions: record.conditions,
            replay_window_ms: record.replay_window_ms,
            is_enabled: record.is_enabled,
            owner_id: record.owner_id,
            created_by: record.created_by,
            created_at: record.created_at,
            changed_at: record.changed_at,
            sealed,
        }
    }
}

impl From<Model> for HookRecord {
    fn from(row: Model) -> Self {
        Self {
            id: row.id,
            tenant_id: row.tenant_id,
            name: row.name,
            authentication: row.authentication,
            job: row.job,
            parameters: row.parameters,
            conditions: row.conditions,
            replay_window_ms: row.replay_window_ms,
            is_enabled: row.is_enabled,
            owner_id: row.owner_id,
            created_by: row.created_by,
            created_at: row.created_at,
            changed_at: row.changed_at,
        }
    }
}
