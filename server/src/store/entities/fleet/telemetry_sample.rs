//! Table `telemetry_samples`: the telemetry of one heartbeat.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::fleet::records::TelemetryRecord;
use crate::domain::ids::AgentId;
use crate::domain::time::Timestamp;

/// The telemetry of one heartbeat.
#[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "telemetry_samples")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub agent_id: AgentId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub at: Timestamp,
    pub cpu_percent: Option<f64>,
    pub memory_percent: Option<f64>,
    pub disk_percent: Option<f64>,
    pub uptime_seconds: Option<f64>,
    pub load_1m: Option<f64>,
    pub running_executions: Option<f64>,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for TelemetryRecord {
    fn from(row: Model) -> Self {
        Self {
            at: row.at,
            cpu_percent: row.cpu_percent,
            memory_percent: row.memory_percent,
            disk_percent: row.disk_percent,
            uptime_seconds: row.uptime_seconds,
            load_1m: row.load_1m,
            running_executions: row.running_executions,
        }
    }
}
