//! Table `command_reports`: the report of the agent about a command. It is stored once.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::commands::command_state::CommandState;
use crate::domain::commands::records::ReportRecord;
use crate::domain::ids::CommandId;
use crate::domain::time::Timestamp;

/// The report of the agent about a command. It is stored once.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "command_reports")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub command_id: CommandId,
    pub is_late: bool,
    pub outcome: CommandState,
    pub data: String,
    pub error: Option<String>,
    pub error_code: Option<String>,
    pub reported_at: Timestamp,
    /// What the agent signed, JSON.
    pub attestation: Option<String>,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for ReportRecord {
    fn from(row: Model) -> Self {
        Self {
            is_late: row.is_late,
            outcome: row.outcome,
            data: row.data,
            error: row.error,
            error_code: row.error_code,
            reported_at: row.reported_at,
            attestation: row.attestation,
        }
    }
}
