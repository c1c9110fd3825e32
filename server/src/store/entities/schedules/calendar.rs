//! Table `calendars`: when work may start.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::ids::{CalendarId, PrincipalId, TenantId};
use crate::domain::schedules::calendar::CalendarRecord;
use crate::domain::time::Timestamp;

/// A calendar.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "calendars")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: CalendarId,
    pub tenant_id: TenantId,
    pub name: String,
    pub time_zone: String,
    /// A list of `EntrySpec`, JSON.
    pub entries: String,
    /// A `TargetSpec`, JSON.
    pub target: Option<String>,
    /// A list of ids, JSON.
    pub schedule_ids: String,
    pub created_by: PrincipalId,
    pub created_at: Timestamp,
    pub changed_at: Timestamp,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for CalendarRecord {
    fn from(row: Model) -> Self {
        Self {
            id: row.id,
            tenant_id: row.tenant_id,
            name: row.name,
            time_zone: row.time_zone,
            entries: row.entries,
            target: row.target,
            schedule_ids: row.schedule_ids,
            created_by: row.created_by,
            created_at: row.created_at,
            changed_at: row.changed_at,
        }
    }
}

impl From<CalendarRecord> for Model {
    fn from(record: CalendarRecord) -> Self {
        Self {
            id: record.id,
            tenant_id: record.tenant_id,
            name: record.name,
            time_zone: record.time_zone,
            entries: record.entries,
            target: record.target,
            schedule_ids: record.schedule_ids,
            created_by: record.created_by,
            created_at: record.created_at,
            changed_at: record.changed_at,
        }
    }
}
