//! Hooks of a tenant: changes by people.

use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, DatabaseTransaction, EntityTrait as _,
    IntoActiveModel as _, PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use crate::domain::ids::{HookId, TenantId};
use crate::domain::page::PageRequest;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::audit_entry;
use crate::store::entities::schedules::{hook, hook_delivery};
use crate::store::queries::access::tenants::tenant_deletion::closed_tenants;
use crate::store::queries::{SystemScope, TenantScope};
use crate::store::requester::write_audit;

/// The tenant has as many hooks as it may have.
pub const TOO_MANY_HOOKS: &str = "the tenant has too many hooks";

impl SystemScope {
    /// A hook by its id alone, as its deliveries name it; `None` also if its tenant is being deleted.
    pub async fn hook(&self, id: HookId) -> Result<Option<hook::Model>, StoreError> {
        let query = hook::Entity::find_by_id(id)
            .filter(hook::Column::TenantId.not_in_subquery(closed_tenants()));
        Ok(query.all(&self.reader).await?.pop())
    }
}

impl TenantScope {
    /// Stores a new hook.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if another hook has the name, or the tenant has `most` hooks.
    pub async fn create_hook(
        &self,
        row: hook::Model,
        most: u64,
        audit: audit_entry::Model,
    ) -> Result<(), StoreError> {
        self.writer
            .change(move |transaction| {
                let (row, audit) = (row.clone(), audit.clone());
                Box::pin(async move {
                    if of_tenant(row.tenant_id).count(transaction).await? >= most {
                        return Err(StoreError::Refused(TOO_MANY_HOOKS));
                    }
                    check_name(transaction, &row).await?;
                    hook::Entity::insert(row.into_active_model())
                        .exec_without_returning(transaction)
                        .await?;
                    write_audit(transaction, audit).await
                })
            })
            .await
    }

    /// One page of hooks, oldest first, with one row more than the limit if there is one.
    pub async fn hooks(&self, page: PageRequest) -> Result<Vec<hook::Model>, StoreError> {
        let mut query =
            of_tenant(self.tenant_id).order_by_asc(hook::Column::Id).limit(page.limit + 1);
        if let Some(after) = page.after {
            query = query.filter(hook::Column::Id.gt(after));
        }
        Ok(query.all(&self.reader).await?)
    }

    /// One hook.
    pub async fn hook(&self, id: HookId) -> Result<Option<hook::Model>, StoreError> {
        Ok(of_tenant(self.tenant_id).filter(hook::Column::Id.eq(id)).all(&self.reader).await?.pop())
    }

    /// Changes a hook; false if it does not exist or was changed since `was_changed_at`.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if another hook has the name.
    pub async fn change_hook(
        &self,
        row: hook::Model,
        was_changed_at: Timestamp,
        audit: audit_entry::Model,
    ) -> Result<bool, StoreError> {
        self.writer
            .change(move |transaction| {
                let (row, audit) = (row.clone(), audit.clone());
                Box::pin(async move {
                    check_name(transaction, &row).await?;
                    let found = of_tenant(row.tenant_id)
                        .filter(hook::Column::Id.eq(row.id))
                        .filter(hook::Column::ChangedAt.eq(was_changed_at))
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

    /// Deletes a hook with its deliveries; false if it does not exist. Its jobs stay.
    pub async fn delete_hook(
        &self,
        id: HookId,
        audit: audit_entry::Model,
    ) -> Result<bool, StoreError> {
        let tenant_id = self.tenant_id;
        self.writer
            .change(move |transaction| {
                let audit = audit.clone();
                Box::pin(async move {
                    let deleted = hook::Entity::delete_many()
                        .filter(hook::Column::Id.eq(id))
                        .filter(hook::Column::TenantId.eq(tenant_id))
                        .exec(transaction)
                        .await?;
                    if deleted.rows_affected == 0 {
                        return Ok(false);
                    }
                    hook_delivery::Entity::delete_many()
                        .filter(hook_delivery::Column::HookId.eq(id))
                        .exec(transaction)
                        .await?;
                    write_audit(transaction, audit).await?;
                    Ok(true)
                })
            })
            .await
    }
}

async fn check_name(
    transaction: &DatabaseTransaction,
    row: &hook::Model,
) -> Result<(), StoreError> {
    let others = of_tenant(row.tenant_id)
        .filter(hook::Column::Name.eq(row.name.as_str()))
        .filter(hook::Column::Id.ne(row.id));
    match others.count(transaction).await? {
        0 => Ok(()),
        _ => Err(StoreError::Refused("the hook's name is taken")),
    }
}

fn of_tenant(tenant_id: TenantId) -> sea_orm::Select<hook::Entity> {
    hook::Entity::find().filter(hook::Column::TenantId.eq(tenant_id))
}
