//! Table `rollouts`: the waves of a job.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::commands::records::RolloutRecord;
use crate::domain::ids::{JobId, TenantId};
use crate::domain::time::Timestamp;

/// The progress of a job in waves. Waves are counted from 1. Each execution has the number of its
/// wave.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "rollouts")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub job_id: JobId,
    pub tenant_id: TenantId,
    /// The requested rollout, JSON.
    pub spec: String,
    /// How long an execution waits for its agent after its release.
    pub expires_in_ms: i64,
    /// The current wave.
    pub wave: i32,
    pub wave_count: i32,
    /// The wave of offline agents. It may be empty.
    pub offline_wave: Option<i32>,
    /// When the server noted that every execution of the wave had ended.
    pub wave_ended_at: Option<Timestamp>,
    pub resumed_at: Option<Timestamp>,
    /// The wave after which a person resumed. Its pause and its gate do not apply.
    pub gate_waived_wave: Option<i32>,
    /// Failures at the time when a person last resumed after a halt.
    pub ignored_failures: i64,
    /// Why it halted, as a sentence; only while it is halted.
    pub halt_reason: Option<String>,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for RolloutRecord {
    fn from(row: Model) -> Self {
        Self {
            spec: row.spec,
            wave: row.wave,
            wave_count: row.wave_count,
            wave_ended_at: row.wave_ended_at,
            halt_reason: row.halt_reason,
        }
    }
}
