//! Schedules of a tenant: changes by people.

use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, DatabaseTransaction, EntityTrait as _,
    IntoActiveModel as _, PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use crate::domain::access::tenants::plan::{Plan, PlanLimitReached, PlanResource};
use crate::domain::ids::{ScheduleId, TenantId};
use crate::domain::page::PageRequest;
use crate::domain::schedules::fire::FireReason;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::{audit_entry, tenant};
use crate::store::entities::schedules::{fire, schedule, trigger_state};
use crate::store::queries::TenantScope;
use crate::store::queries::schedules::firing::close_fires;
use crate::store::requester::write_audit;

/// A change of a schedule.
#[derive(Debug, Clone)]
pub struct ScheduleChange {
    /// The new row.
    pub row: schedule::Model,
    /// `changed_at` and `handled_until` of the row that the change is based on.
    pub was: (Timestamp, Timestamp),
    /// Skips fires that have no job yet.
    pub closes_fires: bool,
}

/// The tenant has as many schedules as it may have.
pub const TOO_MANY_SCHEDULES: &str = "the tenant has too many schedules";

impl TenantScope {
    /// Stores a new schedule.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if another schedule has the name, or the tenant has `most` schedules.
    pub async fn create_schedule(
        &self,
        row: schedule::Model,
        most: u64,
        audit: audit_entry::Model,
    ) -> Result<Result<(), PlanLimitReached>, StoreError> {
        self.writer
            .change(move |transaction| {
                let (row, audit) = (row.clone(), audit.clone());
                Box::pin(async move {
                    let count = of_tenant(row.tenant_id).count(transaction).await?;
                    if count >= most {
                        return Err(StoreError::Refused(TOO_MANY_SCHEDULES));
                    }
                    if is_name_taken(transaction, &row).await? {
                        return Err(StoreError::Refused("the schedule's name is taken"));
                    }
                    let plan =
                        tenant::Entity::find_by_id(row.tenant_id).all(transaction).await?.pop();
                    let plan = plan.map_or(Plan::DEFAULT, |tenant| tenant.plan);
                    if let Err(reached) = plan.check_limit(PlanResource::Schedules, count) {
                        return Ok(Err(reached));
                    }
                    schedule::Entity::insert(row.into_active_model())
                        .exec_without_returning(transaction)
                        .await?;
                    write_audit(transaction, audit).await?;
                    Ok(Ok(()))
                })
            })
            .await
    }

    /// One page of schedules, oldest first, with one row more than the limit if there is one.
    pub async fn schedules(&self, page: PageRequest) -> Result<Vec<schedule::Model>, StoreError> {
        let mut query =
            of_tenant(self.tenant_id).order_by_asc(schedule::Column::Id).limit(page.limit + 1);
        if let Some(after) = page.after {
            query = query.filter(schedule::Column::Id.gt(after));
        }
        Ok(query.all(&self.reader).await?)
    }

    /// One schedule.
    pub async fn schedule(&self, id: ScheduleId) -> Result<Option<schedule::Model>, StoreError> {
        let query = of_tenant(self.tenant_id).filter(schedule::Column::Id.eq(id));
        Ok(query.all(&self.reader).await?.pop())
    }

    /// Changes a schedule; `None` if it does not exist, or was changed or had a due time meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if another schedule has the name.
    pub async fn change_schedule(
        &self,
        change: ScheduleChange,
        audit: audit_entry::Model,
    ) -> Result<Option<schedule::Model>, StoreError> {
        self.writer
            .change(move |transaction| {
                let (change, audit) = (change.clone(), audit.clone());
                Box::pin(async move {
                    let row = change.row;
                    if is_name_taken(transaction, &row).await? {
                        return Err(StoreError::Refused("the schedule's name is taken"));
                    }
                    let found = of_tenant(row.tenant_id)
                        .filter(schedule::Column::Id.eq(row.id))
                        .filter(schedule::Column::ChangedAt.eq(change.was.0))
                        .filter(schedule::Column::HandledUntil.eq(change.was.1))
                        .lock_exclusive()
                        .all(transaction)
                        .await?;
                    if found.is_empty() {
                        return Ok(None);
                    }
                    if change.closes_fires {
                        close_fires(transaction, row.id, FireReason::NotActive).await?;
                    }
                    let row = row.into_active_model().reset_all().update(transaction).await?;
                    write_audit(transaction, audit).await?;
                    Ok(Some(row))
                })
            })
            .await
    }

    /// Deletes a schedule with its fires; false if it does not exist. Its jobs stay.
    pub async fn delete_schedule(
        &self,
        id: ScheduleId,
        audit: audit_entry::Model,
    ) -> Result<bool, StoreError> {
        let tenant_id = self.tenant_id;
        self.writer
            .change(move |transaction| {
                let audit = audit.clone();
                Box::pin(async move {
                    let deleted = schedule::Entity::delete_many()
                        .filter(schedule::Column::Id.eq(id))
                        .filter(schedule::Column::TenantId.eq(tenant_id))
                        .exec(transaction)
                        .await?;
                    if deleted.rows_affected == 0 {
                        return Ok(false);
                    }
                    fire::Entity::delete_many()
                        .filter(fire::Column::ScheduleId.eq(id))
                        .exec(transaction)
                        .await?;
                    trigger_state::Entity::delete_many()
                        .filter(trigger_state::Column::ScheduleId.eq(id))
                        .exec(transaction)
                        .await?;
                    write_audit(transaction, audit).await?;
                    Ok(true)
                })
            })
            .await
    }

    /// Records a fire that a person asked for; `None` if the tenant has no such schedule. Its due time
    /// moves by milliseconds if the schedule has another fire then.
    pub async fn record_manual_fire(
        &self,
        row: fire::Model,
        audit: audit_entry::Model,
    ) -> Result<Option<fire::Model>, StoreError> {
        self.writer
            .change(move |transaction| {
                let (mut row, audit) = (row.clone(), audit.clone());
                Box::pin(async move {
                    let found = of_tenant(row.tenant_id)
                        .filter(schedule::Column::Id.eq(row.schedule_id))
                        .lock_exclusive()
                        .all(transaction)
                        .await?;
                    if found.is_empty() {
                        return Ok(None);
                    }
                    while is_due_taken(transaction, &row).await? {
                        row.due_at = row.due_at.plus_ms(1);
                    }
                    fire::Entity::insert(row.clone().into_active_model())
                        .exec_without_returning(transaction)
                        .await?;
                    write_audit(transaction, audit).await?;
                    Ok(Some(row))
                })
            })
            .await
    }
}

async fn is_due_taken(
    transaction: &DatabaseTransaction,
    row: &fire::Model,
) -> Result<bool, StoreError> {
    let taken = fire::Entity::find()
        .filter(fire::Column::ScheduleId.eq(row.schedule_id))
        .filter(fire::Column::DueAt.eq(row.due_at));
    Ok(taken.count(transaction).await? > 0)
}

async fn is_name_taken(
    transaction: &DatabaseTransaction,
    row: &schedule::Model,
) -> Result<bool, StoreError> {
    let others = of_tenant(row.tenant_id)
        .filter(schedule::Column::Name.eq(row.name.as_str()))
        .filter(schedule::Column::Id.ne(row.id));
    Ok(others.count(transaction).await? > 0)
}

fn of_tenant(tenant_id: TenantId) -> sea_orm::Select<schedule::Entity> {
    schedule::Entity::find().filter(schedule::Column::TenantId.eq(tenant_id))
}
