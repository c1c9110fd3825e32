//! Integrations of a tenant: changes by people.

use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, EntityTrait as _, IntoActiveModel as _,
    PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _, Select,
};

use crate::domain::ids::{IntegrationId, TenantId};
use crate::domain::page::PageRequest;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::audit_entry;
use crate::store::entities::integrations::{delivery, integration};
use crate::store::queries::TenantScope;
use crate::store::requester::write_audit;
use crate::store::writer::integrations::queue;

/// The tenant has as many integrations as it may have.
pub const TOO_MANY_INTEGRATIONS: &str = "the tenant has too many integrations";

/// A change of an integration.
#[derive(Debug, Clone)]
pub struct IntegrationChange {
    /// The new row.
    pub row: integration::Model,
    /// `changed_at` of the row that the change is based on.
    pub was: Timestamp,
    /// Its messages that wait are not sent: they fail.
    pub ends_messages: bool,
}

impl TenantScope {
    /// Stores a new integration.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if another one has the name, or the tenant has `most`.
    pub async fn create_integration(
        &self,
        row: integration::Model,
        most: u64,
        audit: audit_entry::Model,
    ) -> Result<(), StoreError> {
        self.writer
            .change(move |transaction| {
                let (row, audit) = (row.clone(), audit.clone());
                Box::pin(async move {
                    if of_tenant(row.tenant_id).count(transaction).await? >= most {
                        return Err(StoreError::Refused(TOO_MANY_INTEGRATIONS));
                    }
                    check_name(transaction, &row).await?;
                    integration::Entity::insert(row.into_active_model())
                        .exec_without_returning(transaction)
                        .await?;
                    write_audit(transaction, audit).await
                })
            })
            .await
    }

    /// One page of integrations, oldest first, with one row more than the limit if there is one.
    pub async fn integrations(
        &self,
        page: PageRequest,
    ) -> Result<Vec<integration::Model>, StoreError> {
        let mut query =
            of_tenant(self.tenant_id).order_by_asc(integration::Column::Id).limit(page.limit + 1);
        if let Some(after) = page.after {
            query = query.filter(integration::Column::Id.gt(after));
        }
        Ok(query.all(&self.reader).await?)
    }

    /// One integration.
    pub async fn integration(
        &self,
        id: IntegrationId,
    ) -> Result<Option<integration::Model>, StoreError> {
        let query = of_tenant(self.tenant_id).filter(integration::Column::Id.eq(id));
        Ok(query.all(&self.reader).await?.pop())
    }

    /// Changes an integration; false if it does not exist or was changed meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if another one has the name.
    pub async fn change_integration(
        &self,
        change: IntegrationChange,
        audit: audit_entry::Model,
    ) -> Result<bool, StoreError> {
        self.writer
            .change(move |transaction| {
                let (change, audit) = (change.clone(), audit.clone());
                Box::pin(async move {
                    let row = change.row;
                    check_name(transaction, &row).await?;
                    let now = row.changed_at;
                    let changed = write(&row)
                        .filter(integration::Column::TenantId.eq(row.tenant_id))
                        .filter(integration::Column::ChangedAt.eq(change.was))
                        .exec(transaction)
                        .await?;
                    if changed.rows_affected == 0 {
                        return Ok(false);
                    }
                    if change.ends_messages {
                        queue::end_all(transaction, row.id, now).await?;
                    }
                    write_audit(transaction, audit).await?;
                    Ok(true)
                })
            })
            .await
    }

    /// Deletes an integration with its messages; false if it does not exist.
    pub async fn delete_integration(
        &self,
        id: IntegrationId,
        audit: audit_entry::Model,
    ) -> Result<bool, StoreError> {
        let tenant_id = self.tenant_id;
        self.writer
            .change(move |transaction| {
                let audit = audit.clone();
                Box::pin(async move {
                    let deleted = integration::Entity::delete_many()
                        .filter(integration::Column::Id.eq(id))
                        .filter(integration::Column::TenantId.eq(tenant_id))
                        .exec(transaction)
                        .await?;
                    if deleted.rows_affected == 0 {
                        return Ok(false);
                    }
                    delivery::Entity::delete_many()
                        .filter(delivery::Column::IntegrationId.eq(id))
                        .exec(transaction)
                        .await?;
                    write_audit(transaction, audit).await?;
                    Ok(true)
                })
            })
            .await
    }
}

/// The columns that people change; the others belong to who sends.
fn write(row: &integration::Model) -> sea_orm::UpdateMany<integration::Entity> {
    use integration::Column;
    integration::Entity::update_many()
        .col_expr(Column::Name, Expr::value(row.name.as_str()))
        .col_expr(Column::Host, Expr::value(row.host.as_str()))
        .col_expr(Column::Shown, Expr::value(row.shown.clone()))
        .col_expr(Column::Sealed, Expr::value(row.sealed.clone()))
        .col_expr(Column::EventTypes, Expr::value(row.event_types.clone()))
        .col_expr(Column::Target, Expr::value(row.target.clone()))
        .col_expr(Column::Template, Expr::value(row.template.clone()))
        .col_expr(Column::IsEnabled, Expr::value(row.is_enabled))
        .col_expr(Column::OfflineAfterMs, Expr::value(row.offline_after_ms))
        .col_expr(Column::FailingSince, Expr::value(row.failing_since.map(|at| at.0)))
        .col_expr(Column::RetryAt, Expr::value(row.retry_at.map(|at| at.0)))
        .col_expr(Column::LastError, Expr::value(row.last_error.clone()))
        .col_expr(Column::ChangedAt, Expr::value(row.changed_at.0))
        .filter(Column::Id.eq(row.id))
}

async fn check_name(
    transaction: &DatabaseTransaction,
    row: &integration::Model,
) -> Result<(), StoreError> {
    let others = of_tenant(row.tenant_id)
        .filter(integration::Column::Name.eq(row.name.as_str()))
        .filter(integration::Column::Id.ne(row.id));
    match others.count(transaction).await? {
        0 => Ok(()),
        _ => Err(StoreError::Refused("the name of the integration is taken")),
    }
}

fn of_tenant(tenant_id: TenantId) -> Select<integration::Entity> {
    integration::Entity::find().filter(integration::Column::TenantId.eq(tenant_id))
}
