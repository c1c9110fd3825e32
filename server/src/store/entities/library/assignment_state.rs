//! Table `assignment_states`: what hosts report about their assignments.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::ids::{AgentId, AssignmentId, TenantId};
use crate::domain::library::assignment_records::AssignmentStateRecord;
use crate::domain::time::Timestamp;

/// The last report of one agent about one assignment.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "assignment_states")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub agent_id: AgentId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub assignment_id: AssignmentId,
    pub tenant_id: TenantId,
    pub version: String,
    pub state: String,
    pub error_code: Option<String>,
    pub error: Option<String>,
    pub skipped_count: i64,
    /// Of a service.
    pub service_state: Option<String>,
    /// Of a service: all that its host reports, JSON.
    pub service: Option<String>,
    pub reported_at: Timestamp,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for AssignmentStateRecord {
    fn from(row: Model) -> Self {
        Self {
            agent_id: row.agent_id,
            version: row.version,
            state: row.state,
            error_code: row.error_code,
            error: row.error,
            skipped_count: row.skipped_count,
            service: row.service.and_then(|text| serde_json::from_str(&text).ok()),
            reported_at: row.reported_at,
        }
    }
}
