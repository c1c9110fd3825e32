//! The history of schedules.

use std::collections::HashMap;

use sea_orm::{
    ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use crate::domain::ids::{FireId, JobId, ScheduleId};
use crate::domain::page::PageRequest;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::commands::job;
use crate::store::entities::schedules::fire;
use crate::store::queries::TenantScope;

/// Rows of one statement.
const ROWS: usize = 50;

impl TenantScope {
    /// One page of a schedule's fires, newest first, with one row more than the limit if there is one.
    pub async fn fires(
        &self,
        schedule_id: ScheduleId,
        page: PageRequest,
    ) -> Result<Vec<fire::Model>, StoreError> {
        let mut query = fire::Entity::find()
            .filter(fire::Column::TenantId.eq(self.tenant_id))
            .filter(fire::Column::ScheduleId.eq(schedule_id))
            .order_by_desc(fire::Column::Id)
            .limit(page.limit + 1);
        if let Some(before) = page.after {
            query = query.filter(fire::Column::Id.lt(before));
        }
        Ok(query.all(&self.reader).await?)
    }

    /// When jobs of the tenant ended that have.
    pub async fn job_ends(&self, ids: Vec<JobId>) -> Result<HashMap<JobId, Timestamp>, StoreError> {
        let mut ends = HashMap::new();
        for ids in ids.chunks(ROWS) {
            let found: Vec<(JobId, Timestamp)> = job::Entity::find()
                .select_only()
                .column(job::Column::Id)
                .column(job::Column::FinishedAt)
                .filter(job::Column::TenantId.eq(self.tenant_id))
                .filter(job::Column::Id.is_in(ids.iter().copied()))
                .filter(job::Column::FinishedAt.is_not_null())
                .into_tuple()
                .all(&self.reader)
                .await?;
            ends.extend(found);
        }
        Ok(ends)
    }

    /// One fire.
    pub async fn fire(&self, id: FireId) -> Result<Option<fire::Model>, StoreError> {
        let query = fire::Entity::find_by_id(id).filter(fire::Column::TenantId.eq(self.tenant_id));
        Ok(query.all(&self.reader).await?.pop())
    }
}
