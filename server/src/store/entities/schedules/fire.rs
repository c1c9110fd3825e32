//! Table `fires`: due times of schedules, and what the server did about them.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::ids::{FireId, JobId, ScheduleId, TenantId};
use crate::domain::schedules::fire::{FireReason, FireState};
use crate::domain::schedules::records::FireRecord;
use crate::domain::time::Timestamp;

/// A fire. There is one for each due time of a schedule.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "fires")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: FireId,
    pub tenant_id: TenantId,
    pub schedule_id: ScheduleId,
    pub due_at: Timestamp,
    pub planned_at: Timestamp,
    pub is_manual: bool,
    pub is_missed: bool,
    pub state: FireState,
    pub reason: Option<FireReason>,
    pub detail: Option<String>,
    pub job_id: Option<JobId>,
    pub fired_at: Option<Timestamp>,
    pub recorded_at: Timestamp,
    pub omitted_before: i64,
    /// When to look at it next; `None` once it has a job or never will.
    pub look_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for FireRecord {
    fn from(row: Model) -> Self {
        Self {
            id: row.id,
            schedule_id: row.schedule_id,
            due_at: row.due_at,
            planned_at: row.planned_at,
            is_manual: row.is_manual,
            is_missed: row.is_missed,
            state: row.state,
            reason: row.reason,
            detail: row.detail,
            job_id: row.job_id,
            fired_at: row.fired_at,
            ended_at: None,
            recorded_at: row.recorded_at,
            omitted_before: row.omitted_before,
        }
    }
}
