//! The history of schedules.

use sea_orm::{
    ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use crate::domain::ids::{FireId, ScheduleId};
use crate::domain::page::PageRequest;
use crate::store::StoreError;
use crate::store::entities::schedules::fire;
use crate::store::queries::TenantScope;

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

    /// One fire.
    pub async fn fire(&self, id: FireId) -> Result<Option<fire::Model>, StoreError> {
        let query = fire::Entity::find_by_id(id).filter(fire::Column::TenantId.eq(self.tenant_id));
        Ok(query.all(&self.reader).await?.pop())
    }
}
