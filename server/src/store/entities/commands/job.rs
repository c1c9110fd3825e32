//! Table `jobs`: what somebody asked for, for however many agents.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::commands::job_state::{JobState, Stop};
use crate::domain::commands::records::JobRecord;
use crate::domain::ids::{ApiKeyId, JobId, TenantId};
use crate::domain::time::Timestamp;
use crate::store::entities::column::StringList;

/// What somebody asked for. Its executions are commands with its id; how far it is stands in them.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "jobs")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: JobId,
    pub tenant_id: TenantId,
    /// Empty for an ad-hoc command, whose words stand in `data`.
    pub script: String,
    /// The data of each `execute`, JSON.
    pub data: String,
    /// Names of its secret parameters; the values stand, sealed, in executions that are open.
    pub secret_names: StringList,
    /// The target as it was asked for, JSON.
    pub target: String,
    /// Executions that it began with.
    pub agent_count: i64,
    pub requested_by: ApiKeyId,
    pub requested_from: Option<String>,
    pub created_at: Timestamp,
    pub state: JobState,
    /// When the last execution ended, once it is committed that all have.
    pub finished_at: Option<Timestamp>,
    /// Somebody ended it before its time.
    pub stop: Option<Stop>,
    /// Where its end is told.
    pub webhook_url: Option<String>,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for JobRecord {
    fn from(row: Model) -> Self {
        Self {
            id: row.id,
            script: row.script,
            data: row.data,
            secret_names: row.secret_names.0,
            target: row.target,
            agent_count: row.agent_count,
            requested_by: row.requested_by,
            requested_from: row.requested_from,
            created_at: row.created_at,
            state: row.state,
            finished_at: row.finished_at,
            stop: row.stop,
            webhook_url: row.webhook_url,
        }
    }
}
