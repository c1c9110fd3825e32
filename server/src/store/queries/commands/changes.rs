//! What became of commands that changed, and of the jobs they are part of.

use std::collections::HashMap;

use sea_orm::sea_query::{Expr, ExprTrait as _, Query};
use sea_orm::{
    ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use crate::domain::commands::command_state::{CommandState, EndReason};
use crate::domain::commands::job_state::Stop;
use crate::domain::ids::{AgentId, CommandId, JobId, TenantId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::commands::{command, job};
use crate::store::queries::SystemScope;

/// A command that changed, as it stands.
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

/// A job of which no execution is open, though it is not finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedJob {
    pub tenant_id: TenantId,
    pub id: JobId,
    pub stop: Option<Stop>,
    /// How its executions ended.
    pub ends: Vec<(CommandState, Option<EndReason>)>,
    /// When the last of them ended; for a job without any, when it was made.
    pub finished_at: Timestamp,
}

/// One way in which executions ended, and when the last of them did.
type End = ((CommandState, Option<EndReason>), Option<Timestamp>);

/// States that an execution leaves again.
const OPEN: [CommandState; 3] =
    [CommandState::Queued, CommandState::Delivered, CommandState::Running];

impl SystemScope {
    /// Some commands, as far as they are still there.
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

    /// The jobs that some commands are part of.
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

    /// Jobs that are not finished, oldest first, behind `after`.
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

    /// Those of some jobs that are not finished though no execution of them is open.
    ///
    /// However large a job is, whether one is open is three look-ups in an index; its executions
    /// are counted once, when it is over.
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

    /// How some jobs' executions ended, and when the last one in each way did.
    async fn ends_of(&self, ids: Vec<JobId>) -> Result<HashMap<JobId, Vec<End>>, StoreError> {
        type Row = (JobId, CommandState, Option<EndReason>, Option<Timestamp>);
        let mut ends: HashMap<JobId, Vec<End>> = HashMap::new();
        if ids.is_empty() {
            return Ok(ends);
        }
        let rows: Vec<Row> = command::Entity::find()
            .select_only()
            .column(command::Column::JobId)
            .column(command::Column::State)
            .column(command::Column::EndReason)
            .column_as(Expr::col(command::Column::FinishedAt).max(), "last")
            .filter(command::Column::JobId.is_in(ids))
            .group_by(command::Column::JobId)
            .group_by(command::Column::State)
            .group_by(command::Column::EndReason)
            .into_tuple()
            .all(&self.reader)
            .await?;
        for (id, state, reason, last) in rows {
            ends.entry(id).or_default().push(((state, reason), last));
        }
        Ok(ends)
    }
}
