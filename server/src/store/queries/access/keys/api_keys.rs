//! API keys of a tenant.

use sea_orm::{
    ColumnTrait as _, EntityTrait as _, IntoActiveModel as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _,
};

use super::api_key_changes::actor_rights;
use super::known_secrets::{SecretMaker, check_present_secret, record_secret};
use crate::domain::access::credential::SecretHash;
use crate::domain::ids::{ApiKeyId, MemberId};
use crate::domain::page::PageRequest;
use crate::store::StoreError;
use crate::store::entities::access::{api_key, audit_entry, member};
use crate::store::queries::TenantScope;
use crate::store::requester::check_actor;
use crate::store::requester::write_audit;

/// The result of a creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreatedApiKey {
    Stored,
    /// The key that asks was narrowed after the request was authenticated; nothing is stored.
    MakerChanged,
}

impl TenantScope {
    /// Stores a new key, if the key that asks still has its rights. `presented`: its secret.
    ///
    /// # Errors
    /// [`StoreError::PreviousSecret`].
    pub async fn create_api_key(
        &self,
        row: api_key::Model,
        presented: Option<SecretHash>,
        audit: audit_entry::Model,
    ) -> Result<CreatedApiKey, StoreError> {
        let tenant_id = self.tenant_id;
        self.writer
            .change(move |transaction| {
                let (row, audit) = (row.clone(), audit.clone());
                Box::pin(async move {
                    let maker = actor_rights(transaction, tenant_id, &audit).await?;
                    if maker.is_some_and(|maker| !row.rights().is_within(&maker)) {
                        check_actor(transaction, &audit).await?;
                        return Ok(CreatedApiKey::MakerChanged);
                    }
                    check_present_secret(transaction, presented).await?;
                    let (id, session_id) = (row.created_by, audit.session_id);
                    let maker = SecretMaker { id, presented, session_id };
                    record_secret(transaction, &row, maker, row.created_at).await?;
                    api_key::Entity::insert(row.into_active_model())
                        .exec_without_returning(transaction)
                        .await?;
                    write_audit(transaction, audit).await?;
                    Ok(CreatedApiKey::Stored)
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

    /// One key, also if it is revoked.
    pub async fn api_key_with_revoked(
        &self,
        id: ApiKeyId,
    ) -> Result<Option<api_key::Model>, StoreError> {
        let query =
            api_key::Entity::find_by_id(id).filter(api_key::Column::TenantId.eq(self.tenant_id));
        Ok(query.all(&self.reader).await?.pop())
    }

    /// One member, also if it was removed.
    pub async fn member_with_removed(
        &self,
        id: MemberId,
    ) -> Result<Option<member::Model>, StoreError> {
        let query =
            member::Entity::find_by_id(id).filter(member::Column::TenantId.eq(self.tenant_id));
        Ok(query.all(&self.reader).await?.pop())
    }
}
