//! Certificates of clients: one row for each key.

use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, EntityTrait as _, IntoActiveModel as _,
    PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use crate::domain::certificates::client_certificate::KeyHash;
use crate::domain::ids::{AgentId, CertificateId};
use crate::domain::page::PageRequest;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::audit_entry;
use crate::store::entities::certificates::client_certificate::{Column, Entity, Model};
use crate::store::entities::fleet::agent;
use crate::store::queries::TenantScope;
use crate::store::requester::write_audit;

impl TenantScope {
    /// The last certificate of a key, also if it was revoked or has expired.
    pub async fn certificate_of_key(&self, key: KeyHash) -> Result<Option<Model>, StoreError> {
        let query = Entity::find()
            .filter(Column::TenantId.eq(self.tenant_id))
            .filter(Column::KeyHash.eq(key.as_bytes().to_vec()));
        Ok(query.all(&self.reader).await?.pop())
    }

    /// One page of certificates, oldest first, with one row more than the limit.
    pub async fn certificates(&self, page: PageRequest) -> Result<Vec<Model>, StoreError> {
        let mut query = Entity::find()
            .filter(Column::TenantId.eq(self.tenant_id))
            .order_by_asc(Column::Id)
            .limit(page.limit + 1);
        if let Some(after) = page.after {
            query = query.filter(Column::Id.gt(after));
        }
        Ok(query.all(&self.reader).await?)
    }

    /// One certificate.
    pub async fn certificate(&self, id: CertificateId) -> Result<Option<Model>, StoreError> {
        let query = Entity::find_by_id(id).filter(Column::TenantId.eq(self.tenant_id));
        Ok(query.all(&self.reader).await?.pop())
    }

    /// Certificates that are not revoked and expire before `at`.
    pub async fn count_certificates_until(&self, at: Timestamp) -> Result<u64, StoreError> {
        let query = Entity::find()
            .filter(Column::TenantId.eq(self.tenant_id))
            .filter(Column::RevokedAt.is_null())
            .filter(Column::ExpiresAt.lt(at));
        Ok(query.count(&self.reader).await?)
    }

    /// Stores a certificate for an agent's key pair, within its session with this epoch. Those of its former
    /// key pairs are deleted unless they were revoked.
    ///
    /// # Errors
    /// [`StoreError::StaleEpoch`] if the agent has a newer session or was deleted.
    pub async fn store_agent_certificate(
        &self,
        agent_id: AgentId,
        epoch: i64,
        row: Model,
    ) -> Result<(), StoreError> {
        self.writer
            .change(move |transaction| {
                let row = row.clone();
                Box::pin(async move {
                    let current = agent::Entity::find_by_id(agent_id)
                        .filter(agent::Column::TenantId.eq(row.tenant_id))
                        .filter(agent::Column::Epoch.eq(epoch))
                        .filter(agent::Column::DeletedAt.is_null());
                    if current.all(transaction).await?.is_empty() {
                        return Err(StoreError::StaleEpoch);
                    }
                    Entity::delete_many()
                        .filter(Column::HolderId.eq(agent_id.0))
                        .filter(Column::KeyHash.ne(row.key_hash.clone()))
                        // What was revoked stays so.
                        .filter(Column::RevokedAt.is_null())
                        .exec(transaction)
                        .await?;
                    put(transaction, row).await
                })
            })
            .await
    }

    /// Revokes a certificate for good. `None` if there is none; otherwise the row as it was before.
    pub async fn revoke_certificate(
        &self,
        id: CertificateId,
        now: Timestamp,
        audit: audit_entry::Model,
    ) -> Result<Option<Model>, StoreError> {
        let tenant_id = self.tenant_id;
        self.writer
            .change(move |transaction| {
                let audit = audit.clone();
                Box::pin(async move {
                    let query = Entity::find_by_id(id).filter(Column::TenantId.eq(tenant_id));
                    let Some(row) = query.all(transaction).await?.pop() else { return Ok(None) };
                    if row.revoked_at.is_none() {
                        Entity::update_many()
                            .col_expr(Column::RevokedAt, now.0.into())
                            .filter(Column::Id.eq(id))
                            .exec(transaction)
                            .await?;
                        write_audit(transaction, audit).await?;
                    }
                    Ok(Some(row))
                })
            })
            .await
    }
}

/// Stores the certificate of a key. The id and the revocation of a former one stay.
async fn put(transaction: &DatabaseTransaction, row: Model) -> Result<(), StoreError> {
    let renewed = OnConflict::columns([Column::TenantId, Column::KeyHash])
        .update_columns([Column::Holder, Column::HolderId, Column::IssuedAt, Column::ExpiresAt])
        .to_owned();
    Entity::insert(row.into_active_model())
        .on_conflict(renewed)
        .exec_without_returning(transaction)
        .await?;
    Ok(())
}
