//! Calendars of a tenant.

use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, DatabaseTransaction, EntityTrait as _,
    IntoActiveModel as _, PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use crate::domain::ids::{CalendarId, TenantId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::audit_entry;
use crate::store::entities::schedules::calendar;
use crate::store::queries::TenantScope;
use crate::store::requester::write_audit;

/// The tenant has as many calendars as it may have.
pub const TOO_MANY_CALENDARS: &str = "the tenant has too many calendars";

impl TenantScope {
    /// Stores a new calendar.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if another calendar has the name, or the tenant has `most` calendars.
    pub async fn create_calendar(
        &self,
        row: calendar::Model,
        most: u64,
        audit: audit_entry::Model,
    ) -> Result<(), StoreError> {
        self.writer
            .change(move |transaction| {
                let (row, audit) = (row.clone(), audit.clone());
                Box::pin(async move {
                    if of_tenant(row.tenant_id).count(transaction).await? >= most {
                        return Err(StoreError::Refused(TOO_MANY_CALENDARS));
                    }
                    check_name(transaction, &row).await?;
                    calendar::Entity::insert(row.into_active_model())
                        .exec_without_returning(transaction)
                        .await?;
                    write_audit(transaction, audit).await
                })
            })
            .await
    }

    /// All calendars, oldest first; a tenant has few.
    pub async fn calendars(&self) -> Result<Vec<calendar::Model>, StoreError> {
        let query = of_tenant(self.tenant_id).order_by_asc(calendar::Column::Id);
        Ok(query.all(&self.reader).await?)
    }

    /// One calendar.
    pub async fn calendar(&self, id: CalendarId) -> Result<Option<calendar::Model>, StoreError> {
        let query = of_tenant(self.tenant_id).filter(calendar::Column::Id.eq(id));
        Ok(query.all(&self.reader).await?.pop())
    }

    /// Changes a calendar; false if it does not exist or was changed since `was_changed_at`.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if another calendar has the name.
    pub async fn change_calendar(
        &self,
        row: calendar::Model,
        was_changed_at: Timestamp,
        audit: audit_entry::Model,
    ) -> Result<bool, StoreError> {
        self.writer
            .change(move |transaction| {
                let (row, audit) = (row.clone(), audit.clone());
                Box::pin(async move {
                    check_name(transaction, &row).await?;
                    let found = of_tenant(row.tenant_id)
                        .filter(calendar::Column::Id.eq(row.id))
                        .filter(calendar::Column::ChangedAt.eq(was_changed_at))
                        .lock_exclusive()
                        .all(transaction)
                        .await?;
                    if found.is_empty() {
                        return Ok(false);
                    }
                    row.into_active_model().reset_all().update(transaction).await?;
                    write_audit(transaction, audit).await?;
                    Ok(true)
                })
            })
            .await
    }

    /// Deletes a calendar; false if it does not exist.
    pub async fn delete_calendar(
        &self,
        id: CalendarId,
        audit: audit_entry::Model,
    ) -> Result<bool, StoreError> {
        let tenant_id = self.tenant_id;
        self.writer
            .change(move |transaction| {
                let audit = audit.clone();
                Box::pin(async move {
                    let deleted = calendar::Entity::delete_many()
                        .filter(calendar::Column::Id.eq(id))
                        .filter(calendar::Column::TenantId.eq(tenant_id))
                        .exec(transaction)
                        .await?;
                    if deleted.rows_affected == 0 {
                        return Ok(false);
                    }
                    write_audit(transaction, audit).await?;
                    Ok(true)
                })
            })
            .await
    }
}

async fn check_name(
    transaction: &DatabaseTransaction,
    row: &calendar::Model,
) -> Result<(), StoreError> {
    let others = of_tenant(row.tenant_id)
        .filter(calendar::Column::Name.eq(row.name.as_str()))
        .filter(calendar::Column::Id.ne(row.id));
    match others.count(transaction).await? {
        0 => Ok(()),
        _ => Err(StoreError::Refused("the calendar's name is taken")),
    }
}

fn of_tenant(tenant_id: TenantId) -> sea_orm::Select<calendar::Entity> {
    calendar::Entity::find().filter(calendar::Column::TenantId.eq(tenant_id))
}
