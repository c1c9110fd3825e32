//! Deliveries to hooks. The unique index of their keys makes a repeated delivery the same, however many
//! servers receive it.

use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{
    ColumnTrait as _, EntityTrait as _, IntoActiveModel as _, PaginatorTrait as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use crate::domain::ids::{HookDeliveryId, HookId, JobId};
use crate::domain::page::PageRequest;
use crate::domain::schedules::hook::HookDeliveryState;
use crate::store::StoreError;
use crate::store::entities::access::audit_entry;
use crate::store::entities::schedules::{hook, hook_delivery};
use crate::store::queries::TenantScope;
use crate::store::writer::add_audit;

/// What a delivery led to.
#[derive(Debug, Clone)]
pub struct HookOutcome {
    pub state: HookDeliveryState,
    pub detail: Option<String>,
    pub job_id: Option<JobId>,
}

impl TenantScope {
    /// Records a delivery. Returns what is stored: the earlier delivery if it has the same key, or `None` if
    /// the hook was deleted meanwhile.
    pub async fn record_hook_delivery(
        &self,
        row: hook_delivery::Model,
    ) -> Result<Option<hook_delivery::Model>, StoreError> {
        self.writer
            .change(move |transaction| {
                let row = row.clone();
                Box::pin(async move {
                    let hooks = hook::Entity::find_by_id(row.hook_id)
                        .filter(hook::Column::TenantId.eq(row.tenant_id));
                    if hooks.count(transaction).await? == 0 {
                        return Ok(None);
                    }
                    let same = [hook_delivery::Column::HookId, hook_delivery::Column::DeliveryKey];
                    hook_delivery::Entity::insert(row.clone().into_active_model())
                        .on_conflict(OnConflict::columns(same).do_nothing().to_owned())
                        .exec_without_returning(transaction)
                        .await?;
                    let Some(key) = &row.delivery_key else { return Ok(Some(row)) };
                    let stored = hook_delivery::Entity::find()
                        .filter(hook_delivery::Column::HookId.eq(row.hook_id))
                        .filter(hook_delivery::Column::DeliveryKey.eq(key.as_str()));
                    Ok(stored.all(transaction).await?.pop())
                })
            })
            .await
    }

    /// Records what a delivery led to. One that has a job keeps it.
    pub async fn finish_hook_delivery(
        &self,
        id: HookDeliveryId,
        outcome: HookOutcome,
        audit: audit_entry::Model,
    ) -> Result<(), StoreError> {
        let tenant_id = self.tenant_id;
        self.writer
            .change(move |transaction| {
                let (outcome, audit) = (outcome.clone(), audit.clone());
                Box::pin(async move {
                    let finished = hook_delivery::Entity::update_many()
                        .col_expr(hook_delivery::Column::State, Expr::value(outcome.state))
                        .col_expr(hook_delivery::Column::Detail, Expr::value(outcome.detail))
                        .col_expr(
                            hook_delivery::Column::JobId,
                            Expr::value(outcome.job_id.map(|id| id.0)),
                        )
                        .filter(hook_delivery::Column::Id.eq(id))
                        .filter(hook_delivery::Column::TenantId.eq(tenant_id))
                        .filter(hook_delivery::Column::JobId.is_null())
                        .exec(transaction)
                        .await?;
                    if finished.rows_affected > 0 {
                        add_audit(audit)?;
                    }
                    Ok(())
                })
            })
            .await
    }

    /// One page of a hook's deliveries, newest first, with one row more than the limit if there is one.
    pub async fn hook_deliveries(
        &self,
        hook_id: HookId,
        page: PageRequest,
    ) -> Result<Vec<hook_delivery::Model>, StoreError> {
        let mut query = hook_delivery::Entity::find()
            .filter(hook_delivery::Column::TenantId.eq(self.tenant_id))
            .filter(hook_delivery::Column::HookId.eq(hook_id))
            .order_by_desc(hook_delivery::Column::Id)
            .limit(page.limit + 1);
        if let Some(before) = page.after {
            query = query.filter(hook_delivery::Column::Id.lt(before));
        }
        Ok(query.all(&self.reader).await?)
    }
}
