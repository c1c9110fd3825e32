//! Jobs of any tenant with their progress, for the event feed.

use std::collections::HashMap;

use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, QuerySelect as _};

use crate::domain::commands::command_state::CommandState;
use crate::domain::commands::job_state::JobState;
use crate::domain::ids::{JobId, TenantId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::commands::{command, job};
use crate::store::queries::SystemScope;

/// A job with its progress.
#[derive(Debug, Clone)]
pub struct JobEventSnapshot {
    pub id: JobId,
    pub tenant_id: TenantId,
    pub script: String,
    pub state: JobState,
    /// Executions by state. States without executions are omitted.
    pub counts: HashMap<CommandState, u64>,
    pub finished_at: Option<Timestamp>,
}

impl SystemScope {
    /// These jobs, without those that were deleted. The counts are read from an index after the
    /// states, so the counts of a finished job are final.
    pub async fn job_event_snapshots(
        &self,
        ids: &[JobId],
    ) -> Result<Vec<JobEventSnapshot>, StoreError> {
        type Row = (JobId, TenantId, String, JobState, Option<Timestamp>);
        let jobs: Vec<Row> = job::Entity::find()
            .select_only()
            .columns([job::Column::Id, job::Column::TenantId])
            .columns([job::Column::Script, job::Column::State, job::Column::FinishedAt])
            .filter(job::Column::Id.is_in(ids.iter().copied()))
            .into_tuple()
            .all(&self.reader)
            .await?;
        let rows: Vec<(JobId, CommandState, i64)> = command::Entity::find()
            .select_only()
            .columns([command::Column::JobId, command::Column::State])
            .column_as(Expr::col(command::Column::Id).count(), "executions")
            .filter(command::Column::JobId.is_in(ids.iter().copied()))
            .group_by(command::Column::JobId)
            .group_by(command::Column::State)
            .into_tuple()
            .all(&self.reader)
            .await?;
        let mut counts: HashMap<JobId, HashMap<CommandState, u64>> = HashMap::new();
        for (id, state, count) in rows {
            counts.entry(id).or_default().insert(state, count.unsigned_abs());
        }
        let now = |(id, tenant_id, script, state, finished_at)| {
            let counts = counts.remove(&id).unwrap_or_default();
            JobEventSnapshot { id, tenant_id, script, state, counts, finished_at }
        };
        Ok(jobs.into_iter().map(now).collect())
    }
}
