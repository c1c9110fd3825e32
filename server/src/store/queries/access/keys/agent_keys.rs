//! Agent keys of a tenant.

use sea_orm::{
    ActiveModelTrait as _, ActiveValue::Set, ColumnTrait as _, DatabaseTransaction,
    EntityTrait as _, IntoActiveModel as _, ModelTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _,
};

use crate::domain::ids::{AgentKeyId, TenantId};
use crate::domain::page::PageRequest;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::{agent_key, audit_entry, retired_agent_secret};
use crate::store::entities::column::StringList;
use crate::store::queries::TenantScope;
use crate::store::requester::write_audit;

/// Changes to a key. `None` keeps the value.
#[derive(Debug, Clone, Default)]
pub struct AgentKeyChange {
    pub name: Option<String>,
    pub permissions: Option<Vec<String>>,
    pub tags: Option<Vec<String>>,
    pub max_agents: Option<i32>,
    pub trusts_holders: Option<bool>,
    pub is_disabled: Option<bool>,
    pub expires_at: Option<Option<Timestamp>>,
}

impl TenantScope {
    /// Stores a new key.
    pub async fn create_agent_key(
        &self,
        row: agent_key::Model,
        audit: audit_entry::Model,
    ) -> Result<(), StoreError> {
        self.writer
            .change(move |transaction| {
                let (row, audit) = (row.clone(), audit.clone());
                Box::pin(async move {
                    agent_key::Entity::insert(row.into_active_model())
                        .exec_without_returning(transaction)
                        .await?;
                    write_audit(transaction, audit).await
                })
            })
            .await
    }

    /// One page of keys, oldest first, with one row more than the limit if there is one.
    pub async fn agent_keys(&self, page: PageRequest) -> Result<Vec<agent_key::Model>, StoreError> {
        let mut query = agent_key::Entity::find()
            .filter(agent_key::Column::TenantId.eq(self.tenant_id))
            .order_by_asc(agent_key::Column::Id)
            .limit(page.limit + 1);
        if let Some(after) = page.after {
            query = query.filter(agent_key::Column::Id.gt(after));
        }
        Ok(query.all(&self.reader).await?)
    }

    /// One key.
    pub async fn agent_key(&self, id: AgentKeyId) -> Result<Option<agent_key::Model>, StoreError> {
        let query = agent_key::Entity::find_by_id(id)
            .filter(agent_key::Column::TenantId.eq(self.tenant_id));
        Ok(query.all(&self.reader).await?.pop())
    }

    /// Changes a key; `None` if it does not exist.
    pub async fn update_agent_key(
        &self,
        id: AgentKeyId,
        change: AgentKeyChange,
        audit: audit_entry::Model,
    ) -> Result<Option<agent_key::Model>, StoreError> {
        let tenant_id = self.tenant_id;
        self.writer
            .change(move |transaction| {
                let (change, audit) = (change.clone(), audit.clone());
                Box::pin(async move {
                    let Some(row) = find(transaction, tenant_id, id).await? else {
                        return Ok(None);
                    };
                    let row = change.onto(row).update(transaction).await?;
                    write_audit(transaction, audit).await?;
                    Ok(Some(row))
                })
            })
            .await
    }

    /// Replaces a key's secret. The old one stays valid until `previous_valid_until`, if given.
    pub async fn regenerate_agent_key(
        &self,
        id: AgentKeyId,
        secret: (Vec<u8>, String),
        now: Timestamp,
        previous_valid_until: Option<Timestamp>,
        audit: audit_entry::Model,
    ) -> Result<Option<agent_key::Model>, StoreError> {
        let tenant_id = self.tenant_id;
        self.writer
            .change(move |transaction| {
                let ((hash, prefix), audit) = (secret.clone(), audit.clone());
                Box::pin(async move {
                    let Some(row) = find(transaction, tenant_id, id).await? else {
                        return Ok(None);
                    };
                    // A secret that is still in the grace period of an earlier replacement ends
                    // with this one.
                    retire(transaction, &row, row.previous_secret_hash.clone(), false, now).await?;
                    retire(transaction, &row, Some(row.secret_hash.clone()), false, now).await?;
                    let old = row.secret_hash.clone();
                    let mut row = row.into_active_model();
                    row.secret_hash = Set(hash);
                    row.prefix = Set(prefix);
                    row.previous_secret_hash = Set(previous_valid_until.map(|_| old));
                    row.previous_valid_until = Set(previous_valid_until);
                    let row = row.update(transaction).await?;
                    write_audit(transaction, audit).await?;
                    Ok(Some(row))
                })
            })
            .await
    }

    /// Deletes a key; false if it does not exist. Its agents stay listed.
    pub async fn delete_agent_key(
        &self,
        id: AgentKeyId,
        now: Timestamp,
        audit: audit_entry::Model,
    ) -> Result<bool, StoreError> {
        let tenant_id = self.tenant_id;
        self.writer
            .change(move |transaction| {
                let audit = audit.clone();
                Box::pin(async move {
                    let Some(row) = find(transaction, tenant_id, id).await? else {
                        return Ok(false);
                    };
                    retire(transaction, &row, row.previous_secret_hash.clone(), true, now).await?;
                    retire(transaction, &row, Some(row.secret_hash.clone()), true, now).await?;
                    row.delete(transaction).await?;
                    write_audit(transaction, audit).await?;
                    Ok(true)
                })
            })
            .await
    }
}

impl AgentKeyChange {
    fn onto(self, row: agent_key::Model) -> agent_key::ActiveModel {
        let mut row = row.into_active_model();
        if let Some(name) = self.name {
            row.name = Set(name);
        }
        if let Some(permissions) = self.permissions {
            row.permissions = Set(StringList(permissions));
        }
        if let Some(tags) = self.tags {
            row.tags = Set(StringList(tags));
        }
        if let Some(max_agents) = self.max_agents {
            row.max_agents = Set(max_agents);
        }
        if let Some(trusts_holders) = self.trusts_holders {
            row.trusts_holders = Set(trusts_holders);
        }
        if let Some(is_disabled) = self.is_disabled {
            row.is_disabled = Set(is_disabled);
        }
        if let Some(expires_at) = self.expires_at {
            row.expires_at = Set(expires_at);
        }
        row
    }
}

async fn find(
    transaction: &DatabaseTransaction,
    tenant_id: TenantId,
    id: AgentKeyId,
) -> Result<Option<agent_key::Model>, StoreError> {
    let query = agent_key::Entity::find_by_id(id).filter(agent_key::Column::TenantId.eq(tenant_id));
    Ok(query.one(transaction).await?)
}

/// Stores the hash of a replaced secret, so that its agents learn why it is invalid.
async fn retire(
    transaction: &DatabaseTransaction,
    key: &agent_key::Model,
    secret_hash: Option<Vec<u8>>,
    is_deleted: bool,
    now: Timestamp,
) -> Result<(), StoreError> {
    let Some(secret_hash) = secret_hash else { return Ok(()) };
    retired_agent_secret::Entity::delete_by_id(secret_hash.clone()).exec(transaction).await?;
    let row = retired_agent_secret::Model {
        secret_hash,
        tenant_id: key.tenant_id,
        key_id: key.id,
        is_deleted,
        retired_at: now,
    };
    retired_agent_secret::Entity::insert(row.into_active_model())
        .exec_without_returning(transaction)
        .await?;
    Ok(())
}
