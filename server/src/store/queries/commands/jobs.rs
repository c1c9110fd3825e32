//! Jobs of a tenant, and their progress.

use std::collections::HashMap;

use sea_orm::sea_query::{Expr, Query};
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, EntityTrait as _, ExprTrait as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _,
};

use crate::domain::commands::command_state::{CommandState, EndReason};
use crate::domain::commands::job_state::{JobState, Stop};
use crate::domain::fleet::agent::AgentLevel;
use crate::domain::ids::{AgentId, CommandId, JobId, PrincipalId};
use crate::domain::page::PageRequest;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::command_completion::end_of;
use crate::store::entities::access::audit_entry;
use crate::store::entities::column::StringList;
use crate::store::entities::commands::{command, idempotency_record, job, rollout};
use crate::store::entities::fleet::agent;
use crate::store::queries::TenantScope;
use crate::store::requester::write_audit;

/// The result of a request to cancel a job.
#[derive(Debug, Clone, Default)]
pub struct CancelledJob {
    /// Executions that had not been sent. They have ended.
    pub ended: Vec<CommandId>,
    /// Executions whose agents must be asked to cancel them.
    pub sent: Vec<(CommandId, AgentId)>,
}

/// Which jobs to list. The default is all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    pub state: Option<JobState>,
    pub script: Option<String>,
    pub created_after: Option<Timestamp>,
    pub created_before: Option<Timestamp>,
}

/// Executions of a job by how they ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndedIn {
    Any,
    NotSucceeded,
    States(Vec<CommandState>),
}

/// The progress of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobProgress {
    /// Executions by state. States without executions are omitted.
    pub counts: HashMap<CommandState, u64>,
}

impl JobProgress {
    /// True if every execution has ended.
    pub fn is_over(&self) -> bool {
        self.counts.keys().all(|state| state.is_terminal())
    }
}

impl TenantScope {
    /// One job.
    pub async fn job(&self, id: JobId) -> Result<Option<job::Model>, StoreError> {
        let query = job::Entity::find_by_id(id).filter(job::Column::TenantId.eq(self.tenant_id));
        Ok(query.all(&self.reader).await?.pop())
    }

    /// One page of jobs, newest first, with one row more than the limit if there is one.
    pub async fn jobs(
        &self,
        filter: &JobFilter,
        page: PageRequest,
    ) -> Result<Vec<job::Model>, StoreError> {
        let mut query = job::Entity::find()
            .filter(job::Column::TenantId.eq(self.tenant_id))
            .order_by_desc(job::Column::Id)
            .limit(page.limit + 1);
        if let Some(before) = page.after {
            query = query.filter(job::Column::Id.lt(before));
        }
        if let Some(state) = filter.state {
            query = query.filter(job::Column::State.eq(state));
        }
        if let Some(script) = &filter.script {
            query = query.filter(job::Column::Script.eq(script.as_str()));
        }
        if let Some(after) = filter.created_after {
            query = query.filter(job::Column::CreatedAt.gte(after));
        }
        if let Some(before) = filter.created_before {
            query = query.filter(job::Column::CreatedAt.lt(before));
        }
        Ok(query.all(&self.reader).await?)
    }

    /// The progress of these jobs, which must belong to this tenant. Reads an index, no rows.
    pub async fn job_progress(
        &self,
        ids: &[JobId],
    ) -> Result<HashMap<JobId, JobProgress>, StoreError> {
        let rows: Vec<(JobId, CommandState, i64)> = command::Entity::find()
            .select_only()
            .column(command::Column::JobId)
            .column(command::Column::State)
            .column_as(Expr::col(command::Column::Id).count(), "executions")
            .filter(command::Column::JobId.is_in(ids.iter().copied()))
            .group_by(command::Column::JobId)
            .group_by(command::Column::State)
            .into_tuple()
            .all(&self.reader)
            .await?;
        let mut progress: HashMap<JobId, JobProgress> = HashMap::new();
        for (id, state, count) in rows {
            progress.entry(id).or_default().counts.insert(state, count.unsigned_abs());
        }
        Ok(progress)
    }

    /// Names of the secret parameters of these jobs, without jobs of other tenants.
    pub async fn secret_names(
        &self,
        ids: Vec<JobId>,
    ) -> Result<HashMap<JobId, StringList>, StoreError> {
        let rows: Vec<(JobId, StringList)> = job::Entity::find()
            .select_only()
            .columns([job::Column::Id, job::Column::SecretNames])
            .filter(job::Column::TenantId.eq(self.tenant_id))
            .filter(job::Column::Id.is_in(ids))
            .into_tuple()
            .all(&self.reader)
            .await?;
        Ok(rows.into_iter().collect())
    }

    /// The existing agents of a job's executions, of all or of those that ended in some states.
    pub async fn agents_of_job(
        &self,
        id: JobId,
        ended: &EndedIn,
    ) -> Result<Vec<AgentId>, StoreError> {
        let mut query = command::Entity::find()
            .select_only()
            .column(command::Column::AgentId)
            .filter(command::Column::TenantId.eq(self.tenant_id))
            .filter(command::Column::JobId.eq(id))
            .filter(
                command::Column::AgentId.in_subquery(
                    Query::select()
                        .column(agent::Column::Id)
                        .from(agent::Entity)
                        .and_where(agent::Column::TenantId.eq(self.tenant_id))
                        .and_where(agent::Column::DeletedAt.is_null())
                        .take(),
                ),
            );
        query = match ended {
            EndedIn::Any => query,
            EndedIn::NotSucceeded => {
                query.filter(command::Column::State.ne(CommandState::Succeeded))
            }
            EndedIn::States(states) => {
                query.filter(command::Column::State.is_in(states.iter().copied()))
            }
        };
        Ok(query.into_tuple().all(&self.reader).await?)
    }

    /// The record of an idempotency key, if there is one.
    pub async fn idempotency_record(
        &self,
        principal_id: PrincipalId,
        key: &str,
    ) -> Result<Option<idempotency_record::Model>, StoreError> {
        let query = idempotency_record::Entity::find()
            .filter(idempotency_record::Column::TenantId.eq(self.tenant_id))
            .filter(idempotency_record::Column::PrincipalId.eq(principal_id))
            .filter(idempotency_record::Column::Key.eq(key));
        Ok(query.all(&self.reader).await?.pop())
    }

    /// Stores a request to cancel every open execution of a job. Queued executions end at once.
    /// Executions that were sent to basic agents are not affected. `None` if there is no such job.
    pub async fn cancel_job(
        &self,
        id: JobId,
        now: Timestamp,
        audit: audit_entry::Model,
    ) -> Result<Option<CancelledJob>, StoreError> {
        if self.job(id).await?.is_none() {
            return Ok(None);
        }
        let cancelled = self
            .writer
            .change(move |transaction| {
                let audit = audit.clone();
                Box::pin(async move {
                    let open = open_executions(transaction, id).await?;
                    let (queued, sent): (Vec<_>, Vec<_>) =
                        open.into_iter().partition(|row| row.2 == CommandState::Queued);
                    for rows in queued.chunks(ROWS) {
                        end_queued(transaction, rows, now).await?;
                    }
                    for rows in sent.chunks(ROWS) {
                        ask(transaction, rows, now).await?;
                    }
                    if !queued.is_empty() || !sent.is_empty() {
                        stop(transaction, id).await?;
                        write_audit(transaction, audit).await?;
                    }
                    Ok(CancelledJob {
                        ended: queued.into_iter().map(|row| row.0).collect(),
                        sent: sent.into_iter().map(|row| (row.0, row.1)).collect(),
                    })
                })
            })
            .await?;
        let ended = cancelled.ended.len() as u64;
        self.writer.metrics().ended(CommandState::Cancelled.as_str(), ended);
        Ok(Some(cancelled))
    }
}

/// Rows of one statement.
const ROWS: usize = 500;

type Open = (CommandId, AgentId, CommandState);

/// The open executions that can be cancelled: all but those that were sent to basic agents.
async fn open_executions(
    transaction: &DatabaseTransaction,
    id: JobId,
) -> Result<Vec<Open>, StoreError> {
    let basic = Query::select()
        .column(agent::Column::Id)
        .from(agent::Entity)
        .and_where(agent::Column::Level.eq(AgentLevel::Basic))
        .take();
    let is_sent = command::Column::State
        .eq(CommandState::Queued)
        .or(command::Column::AgentId.not_in_subquery(basic));
    Ok(command::Entity::find()
        .select_only()
        .column(command::Column::Id)
        .column(command::Column::AgentId)
        .column(command::Column::State)
        .filter(command::Column::JobId.eq(id))
        .filter(command::Column::FinishedAt.is_null())
        .filter(is_sent)
        .into_tuple()
        .all(transaction)
        .await?)
}

/// Records that a person ended the job early. A paused or halted rollout continues to its end.
async fn stop(transaction: &DatabaseTransaction, id: JobId) -> Result<(), StoreError> {
    job::Entity::update_many()
        .col_expr(job::Column::Stop, Stop::Cancelled.as_str().into())
        .col_expr(job::Column::State, JobState::Running.as_str().into())
        .filter(job::Column::Id.eq(id))
        .filter(job::Column::FinishedAt.is_null())
        .exec(transaction)
        .await?;
    rollout::Entity::update_many()
        .col_expr(rollout::Column::HaltReason, Option::<String>::None.into())
        .filter(rollout::Column::JobId.eq(id))
        .exec(transaction)
        .await?;
    Ok(())
}

async fn end_queued(
    transaction: &DatabaseTransaction,
    rows: &[Open],
    now: Timestamp,
) -> Result<(), StoreError> {
    end_of(CommandState::Cancelled, now)
        .col_expr(command::Column::CancelRequestedAt, now.0.into())
        .col_expr(command::Column::EndReason, EndReason::CancelledInQueue.as_str().into())
        .filter(command::Column::Id.is_in(rows.iter().map(|row| row.0)))
        .exec(transaction)
        .await?;
    Ok(())
}

async fn ask(
    transaction: &DatabaseTransaction,
    rows: &[Open],
    now: Timestamp,
) -> Result<(), StoreError> {
    command::Entity::update_many()
        .col_expr(command::Column::CancelRequestedAt, now.0.into())
        .filter(command::Column::Id.is_in(rows.iter().map(|row| row.0)))
        .filter(command::Column::CancelRequestedAt.is_null())
        .exec(transaction)
        .await?;
    Ok(())
}
