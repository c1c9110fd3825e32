//! Table `rollouts`: how far a job is that goes in waves.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::ids::{JobId, TenantId};
use crate::domain::time::Timestamp;

/// How far a job is that goes in waves. Waves are counted from 1; who is in which stands in the
/// executions.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "rollouts")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub job_id: JobId,
    pub tenant_id: TenantId,
    /// The roll-out as it was asked for, JSON.
    pub spec: String,
    /// How long an execution waits for its agent, from when it is let go.
    pub expires_in_ms: i64,
    /// The wave that has its turn.
    pub wave: i32,
    pub wave_count: i32,
    /// The wave of agents that are offline; it may have none yet.
    pub offline_wave: Option<i32>,
    /// When it was noted that every execution of the wave had ended.
    pub wave_ended_at: Option<Timestamp>,
    pub resumed_at: Option<Timestamp>,
    /// The wave behind which somebody resumed: neither its pause nor its gate counts.
    pub gate_waived_wave: Option<i32>,
    /// Failures that were there when somebody resumed after a halt.
    pub ignored_failures: i64,
    /// Why it halted, in a sentence, while it is halted.
    pub halt_reason: Option<String>,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
