//! The hash chain of a tenant's audit log.

use std::sync::Arc;

use muster_protocol::audit::{AuditAnchor, AuditHead, AuditLink};
use muster_protocol::identity::AgentKeyPair;
use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use crate::domain::ids::TenantId;
use crate::store::StoreError;
use crate::store::entities::access::{audit_anchor, audit_entry, audit_head, audit_link};
use crate::store::queries::{SystemScope, TenantScope};
use crate::store::requester::write_audit;

impl TenantScope {
    /// The last link, with the key of this server that signed it; `None` while the log is empty.
    pub async fn audit_head(&self) -> Result<Option<AuditHead>, StoreError> {
        let query = audit_head::Entity::find_by_id(self.tenant_id);
        let row = query.all(&self.reader).await?.pop();
        Ok(row.and_then(|row| self.writer.audit().stored_head(&row)))
    }

    /// Where the log starts; `None` if retention never removed a link of it.
    ///
    /// An anchor has the key of this server, and the signature that is stored.
    pub async fn audit_anchor(&self) -> Result<Option<AuditAnchor>, StoreError> {
        let query = audit_anchor::Entity::find_by_id(self.tenant_id);
        let row = query.all(&self.reader).await?.pop();
        Ok(row.and_then(|row| self.writer.audit().stored_anchor(&row)))
    }

    /// Removes the links up to an anchor, with their entries. `after`: where the log started until now; if
    /// it starts elsewhere, because another process removed links meanwhile, nothing is removed.
    pub async fn remove_audit_links(
        &self,
        after: u64,
        anchor: AuditAnchor,
        audit: audit_entry::Model,
    ) -> Result<bool, StoreError> {
        let (tenant_id, keys) = (self.tenant_id, self.writer.audit().clone());
        let change = self.writer.change(move |transaction| {
            let (mut anchor, audit) = (anchor.clone(), audit.clone());
            // The key may have been replaced since the anchor was signed.
            if let Some(key) = keys.key() {
                anchor = AuditAnchor::sign(&key, anchor.tenant_id, anchor.number, anchor.hash);
            }
            Box::pin(async move { remove(transaction, tenant_id, after, anchor, audit).await })
        });
        change.await
    }

    /// Links behind a number, up to another one, oldest first.
    pub async fn audit_links(
        &self,
        after: u64,
        until: u64,
        limit: u64,
    ) -> Result<Vec<AuditLink>, StoreError> {
        let rows = audit_link::Entity::find()
            .filter(audit_link::Column::TenantId.eq(self.tenant_id))
            .filter(audit_link::Column::Number.gt(after.cast_signed()))
            .filter(audit_link::Column::Number.lte(until.cast_signed()))
            .order_by_asc(audit_link::Column::Number)
            .limit(limit)
            .all(&self.reader)
            .await?;
        Ok(rows.into_iter().map(AuditLink::from).collect())
    }

    /// The key that signs the log, once the server has it.
    pub fn audit_key(&self) -> Option<Arc<AgentKeyPair>> {
        self.writer.audit().key()
    }
}

impl SystemScope {
    /// Tenants that have a log, also that of the operator, in the order of their ids.
    pub async fn audited_tenants(
        &self,
        after: Option<TenantId>,
        limit: u64,
    ) -> Result<Vec<TenantId>, StoreError> {
        let mut query = audit_head::Entity::find()
            .select_only()
            .column(audit_head::Column::TenantId)
            .order_by_asc(audit_head::Column::TenantId)
            .limit(limit);
        if let Some(after) = after {
            query = query.filter(audit_head::Column::TenantId.gt(after));
        }
        Ok(query.into_tuple().all(&self.reader).await?)
    }
}

async fn remove(
    transaction: &DatabaseTransaction,
    tenant_id: TenantId,
    after: u64,
    anchor: AuditAnchor,
    audit: audit_entry::Model,
) -> Result<bool, StoreError> {
    let stored = audit_anchor::Entity::find_by_id(tenant_id).lock_exclusive();
    let stored = stored.all(transaction).await?.pop();
    if stored.map_or(0, |row| row.number.cast_unsigned()) != after {
        return Ok(false);
    }
    let number = anchor.number.cast_signed();
    audit_entry::Entity::delete_many()
        .filter(audit_entry::Column::TenantId.eq(tenant_id))
        .filter(audit_entry::Column::Link.lte(number))
        .exec(transaction)
        .await?;
    audit_link::Entity::delete_many()
        .filter(audit_link::Column::TenantId.eq(tenant_id))
        .filter(audit_link::Column::Number.lte(number))
        .exec(transaction)
        .await?;
    let row = audit_anchor::Model {
        tenant_id,
        number,
        hash: anchor.hash.as_bytes().to_vec(),
        signature: anchor.signature,
    };
    let replace = OnConflict::column(audit_anchor::Column::TenantId)
        .update_columns([
            audit_anchor::Column::Number,
            audit_anchor::Column::Hash,
            audit_anchor::Column::Signature,
        ])
        .to_owned();
    audit_anchor::Entity::insert(row.into_active_model())
        .on_conflict(replace)
        .exec_without_returning(transaction)
        .await?;
    write_audit(transaction, audit).await?;
    Ok(true)
}
