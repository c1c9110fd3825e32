//! The request to delete a tenant, and its withdrawal during the grace period.

use sea_orm::sea_query::{Query, SelectStatement};
use sea_orm::{
    ActiveModelTrait as _, ActiveValue::Set, ColumnTrait as _, EntityTrait as _,
    IntoActiveModel as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use super::administration::TenantAudit;
use crate::domain::ids::TenantId;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::tenant;
use crate::store::queries::{SystemScope, TenantScope};
use crate::store::requester::write_audit;
use crate::store::writer::add_audit;

impl SystemScope {
    /// The tenants that are being deleted.
    pub async fn closed_tenants(&self) -> Result<Vec<TenantId>, StoreError> {
        Ok(tenant::Entity::find()
            .select_only()
            .column(tenant::Column::Id)
            .filter(tenant::Column::DeleteAt.is_not_null())
            .into_tuple()
            .all(&self.reader)
            .await?)
    }

    /// When the next tenant is to be deleted; `None` if none is.
    pub async fn next_deletion(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(tenant::Entity::find()
            .select_only()
            .column(tenant::Column::DeleteAt)
            .filter(tenant::Column::DeleteAt.is_not_null())
            .order_by_asc(tenant::Column::DeleteAt)
            .limit(1)
            .into_tuple()
            .one(&self.reader)
            .await?)
    }
}

impl TenantScope {
    /// Sets when the tenant is deleted, unless that was set before; `None` withdraws it, unless the
    /// deletion has begun, or the operator asked for it and a tenant withdraws it. Returns the tenant as it
    /// is then; `None` if it does not exist.
    pub async fn set_deletion(
        &self,
        delete_at: Option<Timestamp>,
        is_operator: bool,
        now: Timestamp,
        audit: TenantAudit,
    ) -> Result<Option<tenant::Model>, StoreError> {
        let tenant_id = self.tenant_id;
        self.writer
            .change(move |transaction| {
                let audit = audit.clone();
                Box::pin(async move {
                    let found = tenant::Entity::find_by_id(tenant_id).all(transaction).await?.pop();
                    let Some(row) = found.filter(|row| row.delete_at.is_none_or(|at| at > now))
                    else {
                        return Ok(None);
                    };
                    let is_same = row.delete_at.is_some() == delete_at.is_some();
                    let is_taken_over = is_operator && !row.is_deleted_by_operator;
                    let is_refused = row.is_deleted_by_operator && !is_operator;
                    if is_refused || is_same && (delete_at.is_none() || !is_taken_over) {
                        return Ok(Some(row));
                    }
                    let first = row.delete_at.filter(|_| delete_at.is_some());
                    let mut row = row.into_active_model();
                    row.delete_at = Set(first.or(delete_at));
                    row.is_deleted_by_operator = Set(is_operator && delete_at.is_some());
                    let row = row.update(transaction).await?;
                    write_audit(transaction, audit.requested).await?;
                    if let Some(in_tenant) = audit.in_tenant {
                        add_audit(in_tenant)?;
                    }
                    Ok(Some(row))
                })
            })
            .await
    }
}

/// Tenants that are being deleted, of which nothing starts and nothing is sent.
pub(in crate::store::queries) fn closed_tenants() -> SelectStatement {
    Query::select()
        .column(tenant::Column::Id)
        .from(tenant::Entity)
        .and_where(tenant::Column::DeleteAt.is_not_null())
        .take()
}
