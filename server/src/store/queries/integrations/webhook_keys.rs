//! The keys that sign a tenant's webhooks.

use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{
    ColumnTrait as _, EntityTrait as _, ExprTrait as _, IntoActiveModel as _, QueryFilter as _,
    QueryOrder as _,
};

use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::audit_entry;
use crate::store::entities::integrations::webhook_key;
use crate::store::queries::TenantScope;
use crate::store::requester::write_audit;

impl TenantScope {
    /// The keys that sign messages at this instant, the current one first.
    pub async fn webhook_keys(
        &self,
        now: Timestamp,
    ) -> Result<Vec<webhook_key::Model>, StoreError> {
        let is_valid =
            webhook_key::Column::ValidUntil.is_null().or(webhook_key::Column::ValidUntil.gt(now));
        Ok(webhook_key::Entity::find()
            .filter(webhook_key::Column::TenantId.eq(self.tenant_id))
            .filter(is_valid)
            .order_by_desc(webhook_key::Column::Id)
            .all(&self.reader)
            .await?)
    }

    /// Stores a tenant's first key, unless it has a key.
    pub async fn create_webhook_key(&self, row: webhook_key::Model) -> Result<(), StoreError> {
        self.writer
            .change(move |transaction| {
                let row = row.clone();
                Box::pin(async move {
                    webhook_key::Entity::insert(row.into_active_model())
                        .on_conflict(OnConflict::new().do_nothing().to_owned())
                        .exec_without_returning(transaction)
                        .await?;
                    Ok(())
                })
            })
            .await
    }

    /// Replaces the current key, which keeps signing until `previous_until`. Keys that were
    /// replaced earlier stop signing.
    pub async fn rotate_webhook_key(
        &self,
        row: webhook_key::Model,
        previous_until: Timestamp,
        audit: audit_entry::Model,
    ) -> Result<(), StoreError> {
        let tenant_id = self.tenant_id;
        self.writer
            .change(move |transaction| {
                let (row, audit) = (row.clone(), audit.clone());
                Box::pin(async move {
                    webhook_key::Entity::delete_many()
                        .filter(webhook_key::Column::TenantId.eq(tenant_id))
                        .filter(webhook_key::Column::ValidUntil.is_not_null())
                        .exec(transaction)
                        .await?;
                    webhook_key::Entity::update_many()
                        .col_expr(webhook_key::Column::ValidUntil, Expr::value(previous_until))
                        .filter(webhook_key::Column::TenantId.eq(tenant_id))
                        .exec(transaction)
                        .await?;
                    webhook_key::Entity::insert(row.into_active_model())
                        .exec_without_returning(transaction)
                        .await?;
                    write_audit(transaction, audit).await
                })
            })
            .await
    }
}
