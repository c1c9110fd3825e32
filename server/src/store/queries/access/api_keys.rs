//! API keys of a tenant.

use sea_orm::{
    ActiveModelTrait as _, ActiveValue::Set, ColumnTrait as _, Condition, DatabaseTransaction,
    EntityTrait as _, IntoActiveModel as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use super::agent_keys::write_audit;
use crate::domain::access::principal::Scope;
use crate::domain::ids::ApiKeyId;
use crate::domain::page::PageRequest;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::{api_key, audit_entry};
use crate::store::queries::TenantScope;

impl TenantScope {
    /// Stores a new key.
    pub async fn create_api_key(
        &self,
        row: api_key::Model,
        audit: audit_entry::Model,
    ) -> Result<(), StoreError> {
        self.writer
            .change(move |transaction| {
                let (row, audit) = (row.clone(), audit.clone());
                Box::pin(async move {
                    api_key::Entity::insert(row.into_active_model())
                        .exec_without_returning(transaction)
                        .await?;
                    write_audit(transaction, audit).await
                })
            })
            .await
    }

    /// One page of keys that are not revoked, oldest first, with one row more than the limit.
    pub async fn api_keys(&self, page: PageRequest) -> Result<Vec<api_key::Model>, StoreError> {
        let mut query = api_key::Entity::find()
            .filter(api_key::Column::TenantId.eq(self.tenant_id))
            .filter(api_key::Column::RevokedAt.is_null())
            .order_by_asc(api_key::Column::Id)
            .limit(page.limit + 1);
        if let Some(after) = page.after {
            query = query.filter(api_key::Column::Id.gt(after));
        }
        Ok(query.all(&self.reader).await?)
    }

    /// One key that is not revoked.
    pub async fn api_key(&self, id: ApiKeyId) -> Result<Option<api_key::Model>, StoreError> {
        let query = api_key::Entity::find_by_id(id)
            .filter(api_key::Column::TenantId.eq(self.tenant_id))
            .filter(api_key::Column::RevokedAt.is_null());
        Ok(query.all(&self.reader).await?.pop())
    }

    /// Revokes a key and returns its hash; `None` if it does not exist.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if this is the last key that can publish releases and create keys,
    /// or the one that expires last: the right to publish could never be granted again.
    pub async fn revoke_api_key(
        &self,
        id: ApiKeyId,
        now: Timestamp,
        audit: audit_entry::Model,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let tenant_id = self.tenant_id;
        self.writer
            .change(move |transaction| {
                let audit = audit.clone();
                Box::pin(async move {
                    let query = api_key::Entity::find_by_id(id)
                        .filter(api_key::Column::TenantId.eq(tenant_id))
                        .filter(api_key::Column::RevokedAt.is_null());
                    let Some(row) = query.one(transaction).await? else { return Ok(None) };
                    if holds(&row, now) && !is_outlived(transaction, &row, now).await? {
                        return Err(StoreError::Refused(
                            "it is the last key that can publish releases",
                        ));
                    }
                    let hash = row.secret_hash.clone();
                    let mut row = row.into_active_model();
                    row.revoked_at = Set(Some(now));
                    row.update(transaction).await?;
                    write_audit(transaction, audit).await?;
                    Ok(Some(hash))
                })
            })
            .await
    }
}

/// True if the key can publish releases now, and can grant that right.
fn holds(row: &api_key::Model, now: Timestamp) -> bool {
    let is_valid = row.revoked_at.is_none() && row.expires_at.is_none_or(|at| at > now);
    let has = |scope: Scope| row.scopes.0.iter().any(|held| *held == scope.to_string());
    is_valid && has(Scope::ReleasesManage) && has(Scope::ApiKeysWrite)
}

/// True if another such key, of any tenant, expires no earlier than this one.
async fn is_outlived(
    transaction: &DatabaseTransaction,
    row: &api_key::Model,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let lasts = Condition::any().add(api_key::Column::ExpiresAt.is_null());
    let lasts = lasts.add_option(row.expires_at.map(|at| api_key::Column::ExpiresAt.gte(at)));
    let others = api_key::Entity::find()
        .filter(api_key::Column::Id.ne(row.id))
        .filter(api_key::Column::RevokedAt.is_null())
        .filter(lasts)
        .all(transaction)
        .await?;
    Ok(others.iter().any(|other| holds(other, now)))
}
