//! Table `jobs`: requests to run something on one agent or many.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::commands::job_state::{JobState, Stop};
use crate::domain::commands::records::JobRecord;
use crate::domain::ids::{JobId, PrincipalId, TenantId};
use crate::domain::time::Timestamp;
use crate::store::entities::column::StringList;

/// A job. Its executions are commands with its id, and their states are its progress.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "jobs")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: JobId,
    pub tenant_id: TenantId,
    /// Empty for an ad-hoc command, whose words are in `data`.
    pub script: String,
    /// The data of each `execute`, JSON.
    pub data: String,
    /// Names of its secret parameters. Open executions hold the values, sealed.
    pub secret_names: StringList,
    /// The target as requested, JSON.
    pub target: String,
    /// Number of executions when the job was created.
    pub agent_count: i64,
    pub requested_by: PrincipalId,
    pub requested_from: Option<String>,
    pub created_at: Timestamp,
    pub state: JobState,
    /// When the last execution ended. Set once all have ended.
    pub finished_at: Option<Timestamp>,
    /// How a person ended the job early.
    pub stop: Option<Stop>,
    /// Where to send the webhook when the job ends.
    pub webhook_url: Option<String>,
    /// The job that this one retries.
    pub retry_of: Option<JobId>,
    /// How often each execution is run again by itself: `StoredRetries`, JSON.
    pub retries: Option<String>,
    /// Its executions wait for those of the same agent with the same lock.
    pub lock_name: Option<String>,
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
            retry_of: row.retry_of,
            retries: row.retries.and_then(|text| serde_json::from_str(&text).ok()),
            lock: row.lock_name,
        }
    }
}
