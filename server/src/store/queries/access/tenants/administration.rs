//! Tenants: for the operator all of them, for a tenant its own.

use sea_orm::sea_query::{Expr, ExprTrait as _, Func, Query, SelectStatement};
use sea_orm::{
    ActiveModelTrait as _, ActiveValue::Set, ColumnTrait as _, EntityTrait as _,
    IntoActiveModel as _, PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use crate::domain::access::tenants::plan::Plan;
use crate::domain::access::tenants::tenant::TenantUsage;
use crate::domain::page::PageRequest;
use crate::store::StoreError;
use crate::store::entities::access::{api_key, audit_entry, tenant};
use crate::store::entities::commands::{command, output_blob, output_chunk};
use crate::store::entities::fleet::agent;
use crate::store::queries::access::keys::known_secrets::{SecretMaker, record_secret};
use crate::store::queries::{Bootstrap, SystemScope, TenantScope};
use crate::store::requester::write_audit;
use crate::store::writer::add_audit;

/// Changes to a tenant. `None` keeps the value.
#[derive(Debug, Clone, Default)]
pub struct TenantChange {
    pub name: Option<String>,
    pub plan: Option<Plan>,
    pub requires_second_factor: Option<bool>,
    pub passes_schedules_on: Option<bool>,
    /// `Some(None)`: what the plan allows.
    pub storage_quota_bytes: Option<Option<u64>>,
}

/// The audit entries of a change: one in the log of the caller's tenant, and one in the log of the
/// changed tenant if that is another one.
#[derive(Debug, Clone)]
pub struct TenantAudit {
    pub requested: audit_entry::Model,
    pub in_tenant: Option<audit_entry::Model>,
}

impl SystemScope {
    /// One page of tenants, oldest first, with one row more than the limit if there is one.
    pub async fn tenants(&self, page: PageRequest) -> Result<Vec<tenant::Model>, StoreError> {
        let mut query =
            tenant::Entity::find().order_by_asc(tenant::Column::Id).limit(page.limit + 1);
        if let Some(after) = page.after {
            query = query.filter(tenant::Column::Id.gt(after));
        }
        Ok(query.all(&self.reader).await?)
    }

    /// Creates another tenant with its owner's API key. `requested` is the entry of the operator.
    pub async fn create_tenant(
        &self,
        rows: Bootstrap,
        requested: audit_entry::Model,
    ) -> Result<(), StoreError> {
        self.writer
            .change(move |transaction| {
                let (rows, requested) = (rows.clone(), requested.clone());
                Box::pin(async move {
                    write_audit(transaction, requested).await?;
                    tenant::Entity::insert(rows.tenant.into_active_model())
                        .exec_without_returning(transaction)
                        .await?;
                    let key = &rows.api_key;
                    record_secret(transaction, key, SecretMaker::default(), key.created_at).await?;
                    api_key::Entity::insert(rows.api_key.into_active_model())
                        .exec_without_returning(transaction)
                        .await?;
                    add_audit(rows.audit)
                })
            })
            .await
    }
}

impl TenantScope {
    /// The tenant itself; `None` if it does not exist.
    pub async fn tenant(&self) -> Result<Option<tenant::Model>, StoreError> {
        Ok(tenant::Entity::find_by_id(self.tenant_id).all(&self.reader).await?.pop())
    }

    /// Changes the tenant; `None` if it does not exist.
    pub async fn update_tenant(
        &self,
        change: TenantChange,
        audit: TenantAudit,
    ) -> Result<Option<tenant::Model>, StoreError> {
        let tenant_id = self.tenant_id;
        self.writer
            .change(move |transaction| {
                let (change, audit) = (change.clone(), audit.clone());
                Box::pin(async move {
                    let found = tenant::Entity::find_by_id(tenant_id).all(transaction).await?.pop();
                    let Some(row) = found else { return Ok(None) };
                    let mut row = row.into_active_model();
                    if let Some(name) = change.name {
                        row.name = Set(name);
                    }
                    if let Some(plan) = change.plan {
                        row.plan = Set(plan);
                    }
                    if let Some(is_required) = change.requires_second_factor {
                        row.requires_second_factor = Set(is_required);
                    }
                    if let Some(passes_on) = change.passes_schedules_on {
                        row.passes_schedules_on = Set(passes_on);
                    }
                    if let Some(quota_bytes) = change.storage_quota_bytes {
                        row.storage_quota_bytes = Set(quota_bytes.map(u64::cast_signed));
                    }
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

    /// How much the tenant has. Reads its whole history.
    pub async fn tenant_usage(&self) -> Result<TenantUsage, StoreError> {
        let agents = agent::Entity::find()
            .filter(agent::Column::TenantId.eq(self.tenant_id))
            .filter(agent::Column::DeletedAt.is_null())
            .count(&self.reader)
            .await?;
        let executions = command::Entity::find()
            .filter(command::Column::TenantId.eq(self.tenant_id))
            .filter(command::Column::Command.eq("execute"))
            .count(&self.reader)
            .await?;
        let blobs = output_blob::Entity::find()
            .select_only()
            .column_as(sum(Expr::col(output_blob::Column::StoredBytes)), "bytes")
            .filter(output_blob::Column::DroppedAt.is_null())
            .filter(output_blob::Column::CommandId.in_subquery(self.command_ids()));
        let in_row = Func::cust("length").arg(Expr::col(output_chunk::Column::Records));
        let in_file = Expr::col(output_chunk::Column::FileBytes);
        let chunks = output_chunk::Entity::find()
            .select_only()
            .column_as(sum(in_file.add(in_row)), "bytes")
            .filter(output_chunk::Column::CommandId.in_subquery(self.command_ids()));
        let blobs: Option<Option<i64>> = blobs.into_tuple().one(&self.reader).await?;
        let chunks: Option<Option<i64>> = chunks.into_tuple().one(&self.reader).await?;
        let bytes = |sum: Option<Option<i64>>| sum.flatten().unwrap_or(0).unsigned_abs();
        Ok(TenantUsage { agents, executions, output_bytes: bytes(blobs) + bytes(chunks) })
    }

    fn command_ids(&self) -> SelectStatement {
        Query::select()
            .column(command::Column::Id)
            .from(command::Entity)
            .and_where(Expr::col(command::Column::TenantId).eq(self.tenant_id))
            .take()
    }
}

/// Cast, because PostgreSQL's SUM of 64-bit numbers is a number of another type.
fn sum(of: impl Into<Expr>) -> Expr {
    of.into().sum().cast_as("bigint")
}
