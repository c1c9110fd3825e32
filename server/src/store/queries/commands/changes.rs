//! Reads changed commands, and the jobs that they belong to.

use std::collections::HashMap;

use sea_orm::sea_query::{Expr, ExprTrait as _, Query};
use sea_orm::{
    ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use crate::domain::commands::command_state::CommandState;
use crate::domain::commands::job_state::Stop;
use crate::domain::ids::{AgentId, CommandId, JobId, TenantId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::commands::{command, job};
use crate::store::queries::SystemScope;

/// A changed command, with its current state.
#[derive(Debug, Clone)]
pub struct ChangedCommand {
    pub id: CommandId,
    pub tenant_id: TenantId,
    pub agent_id: AgentId,
    pub job_id: Option<JobId>,
    pub command: String,
    /// JSON.
    pub data: String,
    pub state: CommandState,
}

/// An unfinished job without open executions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedJob {
    pub tenant_id: TenantId,
    pub id: JobId,
    pub stop: Option<Stop>,
    /// The states in which its executions ended.
    pub ends: Vec<CommandState>,
    /// When the last execution ended. For a job without executions, when it was created.
    pub finished_at: Timestamp,
}

/// An end that executions had, and when the last of them ended.
type End = (CommandState, Option<Timestamp>);

/// States that are not terminal.
const OPEN: [CommandState; 3] =
    [CommandState::Queued, CommandState::Delivered, CommandState::Running];

impl SystemScope {
    /// These commands, without those that were deleted.
    pub async fn changed_commands(
        &self,
        ids: &[CommandId],
    ) -> Result<Vec<ChangedCommand>, StoreError> {
        type Row = (CommandId, TenantId, AgentId, Option<JobId>, String, String, CommandState);
        let rows: Vec<Row> = command::Entity::find()
            .select_only()
            .column(command::Column::Id)
            .column(command::Column::TenantId)
            .column(command::Column::AgentId)
            .column(command::Column::JobId)
            .column(command::Column::Command)
            .column(command::Column::Data)
            .column(command::Column::State)
            .filter(command::Column::Id.is_in(ids.iter().copied()))
            .into_tuple()
            .all(&self.reader)
            .await?;
        let changed = |(id, tenant_id, agent_id, job_id, command, data, state)| ChangedCommand {
            id,
            tenant_id,
            agent_id,
            job_id,
            command,
            data,
            state,
        };
        Ok(rows.into_iter().map(changed).collect())
    }

    /// The jobs that these commands belong to.
    pub async fn jobs_of(&self, ids: &[CommandId]) -> Result<Vec<JobId>, StoreError> {
        let jobs: Vec<Option<JobId>> = command::Entity::find()
            .select_only()
            .column(command::Column::JobId)
            .distinct()
            .filter(command::Column::Id.is_in(ids.iter().copied()))
            .filter(command::Column::JobId.is_not_null())
            .into_tuple()
            .all(&self.reader)
            .await?;
        Ok(jobs.into_iter().flatten().collect())
    }

    /// Unfinished jobs after `after`, oldest first.
    pub async fn unfinished_jobs(
        &self,
        after: Option<JobId>,
        limit: u64,
    ) -> Result<Vec<JobId>, StoreError> {
        let mut query = job::Entity::find()
            .select_only()
            .column(job::Column::Id)
            .filter(job::Column::FinishedAt.is_null())
            .order_by_asc(job::Column::Id)
            .limit(limit);
        if let Some(after) = after {
            query = query.filter(job::Column::Id.gt(after));
        }
        Ok(query.into_tuple().all(&self.reader).await?)
    }

    /// The jobs among these that are unfinished and have no open execution.
    ///
    /// For a job of any size, the check for open executions takes three index lookups. The
    /// executions are counted only once, when the job ends.
    pub async fn ended_jobs(&self, ids: &[JobId]) -> Result<Vec<EndedJob>, StoreError> {
        let open = Query::select()
            .expr(Expr::val(1))
            .from(command::Entity)
            .and_where(
                Expr::col((command::Entity, command::Column::JobId))
                    .equals((job::Entity, job::Column::Id)),
            )
            .and_where(Expr::col((command::Entity, command::Column::State)).is_in(OPEN))
            .take();
        let jobs: Vec<(JobId, TenantId, Option<Stop>, Timestamp)> = job::Entity::find()
            .select_only()
            .column(job::Column::Id)
            .column(job::Column::TenantId)
            .column(job::Column::Stop)
            .column(job::Column::CreatedAt)
            .filter(job::Column::Id.is_in(ids.iter().copied()))
            .filter(job::Column::FinishedAt.is_null())
            .filter(Expr::exists(open).not())
            .into_tuple()
            .all(&self.reader)
            .await?;
        let mut ends = self.ends_of(jobs.iter().map(|job| job.0).collect()).await?;
        let ended = |(id, tenant_id, stop, created_at)| {
            let ends = ends.remove(&id).unwrap_or_default();
            let finished_at = ends.iter().filter_map(|(_, at)| *at).max().unwrap_or(created_at);
            let ends = ends.into_iter().map(|(end, _)| end).collect();
            EndedJob { tenant_id, id, stop, ends, finished_at }
        };
        Ok(jobs.into_iter().map(ended).collect())
    }

    /// For each of these jobs, how its executions ended, and when the last one ended that way.
    async fn ends_of(&self, ids: Vec<JobId>) -> Result<HashMap<JobId, Vec<End>>, StoreError> {
        type Row = (JobId, CommandState, Option<Timestamp>);
        let mut ends: HashMap<JobId, Vec<End>> = HashMap::new();
        if ids.is_empty() {
            return Ok(ends);
        }
        let rows: Vec<Row> = command::Entity::find()
            .select_only()
            .column(command::Column::JobId)
            .column(command::Column::State)
            .column_as(Expr::col(command::Column::FinishedAt).max(), "last")
            .filter(command::Column::JobId.is_in(ids))
            .group_by(command::Column::JobId)
            .group_by(command::Column::State)
            .into_tuple()
            .all(&self.reader)
            .await?;
        for (id, state, last) in rows {
            ends.entry(id).or_default().push((state, last));
        }
        Ok(ends)
    }
}
