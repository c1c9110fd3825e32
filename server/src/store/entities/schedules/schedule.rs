//! Table `schedules`: jobs that start at due times.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::ids::{PrincipalId, ScheduleId, TenantId};
use crate::domain::schedules::fire::ScheduleState;
use crate::domain::schedules::policy::{MissedPolicy, OverlapPolicy};
use crate::domain::schedules::records::ScheduleRecord;
use crate::domain::time::Timestamp;
use crate::store::entities::column::StringList;

/// A schedule. Its due times follow from its rule alone.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "schedules")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ScheduleId,
    pub tenant_id: TenantId,
    pub name: String,
    /// A `RuleSpec`, JSON.
    pub rule: String,
    pub starts_at: Option<Timestamp>,
    pub ends_at: Option<Timestamp>,
    /// A `JobTemplate`, JSON.
    pub job: String,
    pub state: ScheduleState,
    pub stop_reason: Option<String>,
    pub missed: MissedPolicy,
    pub max_catch_up: i32,
    pub late_limit_ms: i64,
    pub overlap: OverlapPolicy,
    pub jitter_ms: i64,
    pub owner_id: PrincipalId,
    pub created_by: PrincipalId,
    pub created_at: Timestamp,
    pub changed_at: Timestamp,
    pub handled_until: Timestamp,
    pub next_due_at: Option<Timestamp>,
    pub snoozed_until: Option<Timestamp>,
    /// Where the result of each job is sent.
    pub webhook_url: Option<String>,
    /// Secret parameters of its jobs, sealed under the master key.
    pub sealed_parameters: Option<Vec<u8>>,
    pub secret_names: StringList,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for ScheduleRecord {
    fn from(row: Model) -> Self {
        Self {
            id: row.id,
            tenant_id: row.tenant_id,
            name: row.name,
            rule: row.rule,
            starts_at: row.starts_at,
            ends_at: row.ends_at,
            job: row.job,
            state: row.state,
            stop_reason: row.stop_reason,
            missed: row.missed,
            max_catch_up: row.max_catch_up,
            late_limit_ms: row.late_limit_ms,
            overlap: row.overlap,
            jitter_ms: row.jitter_ms,
            owner_id: row.owner_id,
            created_by: row.created_by,
            created_at: row.created_at,
            changed_at: row.changed_at,
            handled_until: row.handled_until,
            next_due_at: row.next_due_at,
            snoozed_until: row.snoozed_until,
            webhook_url: row.webhook_url,
            sealed_parameters: row.sealed_parameters,
            secret_names: row.secret_names.0,
        }
    }
}

impl From<ScheduleRecord> for Model {
    fn from(record: ScheduleRecord) -> Self {
        Self {
            id: record.id,
            tenant_id: record.tenant_id,
            name: record.name,
            rule: record.rule,
            starts_at: record.starts_at,
            ends_at: record.ends_at,
            job: record.job,
            state: record.state,
            stop_reason: record.stop_reason,
            missed: record.missed,
            max_catch_up: record.max_catch_up,
            late_limit_ms: record.late_limit_ms,
            overlap: record.overlap,
            jitter_ms: record.jitter_ms,
            owner_id: record.owner_id,
            created_by: record.created_by,
            created_at: record.created_at,
            changed_at: record.changed_at,
            handled_until: record.handled_until,
            next_due_at: record.next_due_at,
            snoozed_until: record.snoozed_until,
            webhook_url: record.webhook_url,
            sealed_parameters: record.sealed_parameters,
            secret_names: StringList(record.secret_names),
        }
    }
}
