//! Requests to delete the old history of a tenant.

use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{
    ColumnTrait as _, EntityTrait as _, IntoActiveModel as _, PaginatorTrait as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use crate::domain::ids::first_id_at;
use crate::domain::operations::storage::purge::StoragePurge;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::audit_entry;
use crate::store::entities::commands::command;
use crate::store::entities::operations::storage_purge;
use crate::store::queries::{SystemScope, TenantScope};
use crate::store::requester::write_audit;

impl TenantScope {
    /// The last request of the tenant.
    pub async fn storage_purge(&self) -> Result<Option<StoragePurge>, StoreError> {
        let found = storage_purge::Entity::find_by_id(self.tenant_id).all(&self.reader).await?;
        Ok(found.into_iter().next().map(Into::into))
    }

    /// Stores a request instead of the last one, whose rest it takes over. Returns what will be deleted.
    pub async fn request_storage_purge(
        &self,
        purge: StoragePurge,
        audit: audit_entry::Model,
    ) -> Result<StoragePurge, StoreError> {
        self.writer
            .change(move |transaction| {
                let audit = audit.clone();
                Box::pin(async move {
                    let earlier = storage_purge::Entity::find_by_id(purge.tenant_id)
                        .all(transaction)
                        .await?
                        .pop()
                        .map(StoragePurge::from);
                    let purge = purge.after(earlier.as_ref());
                    let row = storage_purge::Model::from(purge).into_active_model();
                    storage_purge::Entity::insert(row)
                        .on_conflict(
                            OnConflict::column(storage_purge::Column::TenantId)
                                .update_columns([
                                    storage_purge::Column::HistoryBefore,
                                    storage_purge::Column::RequestedBy,
                                    storage_purge::Column::RequestedAt,
                                    storage_purge::Column::FinishedAt,
                                ])
                                .to_owned(),
                        )
                        .exec_without_returning(transaction)
                        .await?;
                    write_audit(transaction, audit).await?;
                    Ok(purge)
                })
            })
            .await
    }

    /// How many executions and other commands a purge would delete.
    pub async fn ended_before(&self, before: Timestamp) -> Result<u64, StoreError> {
        Ok(command::Entity::find()
            .filter(command::Column::TenantId.eq(self.tenant_id))
            .filter(command::Column::Id.lt(first_id_at(before)))
            .filter(command::Column::FinishedAt.lt(before))
            // As the slices that are deleted, by the index of the tenant's history.
            .filter(Expr::cust("is_indexed"))
            .count(&self.reader)
            .await?)
    }
}

impl SystemScope {
    /// The requests that are not done, oldest first.
    pub async fn open_storage_purges(&self, most: u64) -> Result<Vec<StoragePurge>, StoreError> {
        let open = storage_purge::Entity::find()
            .filter(storage_purge::Column::FinishedAt.is_null())
            .order_by_asc(storage_purge::Column::RequestedAt)
            .limit(most);
        Ok(open.all(&self.reader).await?.into_iter().map(Into::into).collect())
    }

    /// Notes that everything of a request is deleted, unless there is another one meanwhile.
    pub async fn finish_storage_purge(
        &self,
        purge: StoragePurge,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.writer
            .change(move |transaction| {
                Box::pin(async move {
                    storage_purge::Entity::update_many()
                        .col_expr(storage_purge::Column::FinishedAt, Expr::value(now.0))
                        .filter(storage_purge::Column::TenantId.eq(purge.tenant_id))
                        .filter(storage_purge::Column::RequestedAt.eq(purge.requested_at))
                        .filter(storage_purge::Column::HistoryBefore.eq(purge.history_before))
                        .exec(transaction)
                        .await?;
                    Ok(())
                })
            })
            .await
    }
}
