//! The end of jobs, once and for all.

use std::collections::HashSet;

use sea_orm::{ColumnTrait as _, DbErr, EntityTrait as _, QueryFilter as _, QuerySelect as _};

use super::connection::Work;
use super::rows::filled;
use super::{MAX_LIST, Merge};
use crate::domain::ids::{JobId, TenantId};
use crate::domain::job_state::JobState;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::job;

/// Finishes a job all of whose executions have ended.
pub struct FinishJob {
    pub tenant_id: TenantId,
    pub job_id: JobId,
    pub state: JobState,
    /// When the last of its executions ended.
    pub finished_at: Timestamp,
}

impl Merge for FinishJob {
    /// False if it was finished before, which changes nothing.
    type Done = bool;

    async fn apply(
        work: &Work<'_>,
        operations: &[Self],
    ) -> Result<Vec<Result<bool, StoreError>>, DbErr> {
        let mut unfinished = HashSet::with_capacity(operations.len());
        for operations in operations.chunks(MAX_LIST) {
            let ids: Vec<JobId> = job::Entity::find()
                .select_only()
                .column(job::Column::Id)
                .filter(job::Column::Id.is_in(filled(operations.iter().map(|op| op.job_id))))
                .filter(job::Column::FinishedAt.is_null())
                .into_tuple()
                .all(work.transaction)
                .await?;
            unfinished.extend(ids);
        }
        let mut results = Vec::with_capacity(operations.len());
        for operation in operations {
            let is_first = unfinished.remove(&operation.job_id);
            if is_first {
                operation.finish(work).await?;
            }
            results.push(Ok(is_first));
        }
        Ok(results)
    }
}

impl FinishJob {
    /// Runs once in a job's life: whatever is to follow from its end is written here, in the same
    /// transaction.
    async fn finish(&self, work: &Work<'_>) -> Result<(), DbErr> {
        job::Entity::update_many()
            .col_expr(job::Column::State, self.state.as_str().into())
            .col_expr(job::Column::FinishedAt, self.finished_at.0.into())
            .filter(job::Column::Id.eq(self.job_id))
            .filter(job::Column::TenantId.eq(self.tenant_id))
            .exec(work.transaction)
            .await?;
        Ok(())
    }
}
