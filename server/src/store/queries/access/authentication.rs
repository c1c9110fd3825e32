//! The owner of a secret, and the first API key of a new database.

use std::collections::BTreeSet;

use sea_orm::{
    ColumnTrait as _, EntityTrait as _, IntoActiveModel as _, PaginatorTrait as _, QueryFilter as _,
};

use crate::domain::access::credential::SecretHash;
use crate::domain::ids::PrincipalId;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::{
    agent_key, api_key, audit_entry, retired_agent_secret, tenant,
};
use crate::store::queries::SystemScope;
use crate::store::queries::access::keys::known_secrets::{SecretMaker, record_secret};
use crate::store::requester::invalid_requesters;
use crate::store::requester::write_audit;

/// The state of a presented agent key.
#[derive(Debug, Clone)]
pub enum AgentKeyMatch {
    /// A valid key. The row says whether it is disabled or expired.
    Key(Box<agent_key::Model>),
    /// A key whose secret was replaced. The old secret is still valid for a while.
    KeyInGrace(Box<agent_key::Model>),
    Deleted,
    Regenerated,
    Unknown,
}

/// The API key of a presented secret.
#[derive(Debug, Clone)]
pub enum ApiKeyMatch {
    Key(Box<api_key::Model>),
    /// A key that was rotated. The secret is valid until `previous_valid_until`.
    Previous(Box<api_key::Model>),
    Unknown,
}

/// The rows of a new database.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    pub tenant: tenant::Model,
    pub api_key: api_key::Model,
    pub audit: audit_entry::Model,
}

impl SystemScope {
    /// The API key of a secret, unless it is revoked.
    pub async fn find_api_key(&self, hash: SecretHash) -> Result<ApiKeyMatch, StoreError> {
        let with = |column: api_key::Column| {
            let query = api_key::Entity::find().filter(column.eq(hash.0.to_vec()));
            query.filter(api_key::Column::RevokedAt.is_null()).all(&self.reader)
        };
        if let Some(row) = with(api_key::Column::SecretHash).await?.pop() {
            return Ok(ApiKeyMatch::Key(Box::new(row)));
        }
        let previous = with(api_key::Column::PreviousSecretHash).await?.pop();
        Ok(previous.map_or(ApiKeyMatch::Unknown, |row| ApiKeyMatch::Previous(Box::new(row))))
    }

    /// Of some API keys, those that are revoked or have expired.
    pub async fn invalid_requesters(
        &self,
        ids: BTreeSet<PrincipalId>,
        now: Timestamp,
    ) -> Result<BTreeSet<PrincipalId>, StoreError> {
        Ok(invalid_requesters(&self.reader, ids, now).await?)
    }

    /// The agent key of a secret.
    pub async fn find_agent_key(
        &self,
        hash: SecretHash,
        now: Timestamp,
    ) -> Result<AgentKeyMatch, StoreError> {
        let hash = hash.0.to_vec();
        let current = agent_key::Entity::find()
            .filter(agent_key::Column::SecretHash.eq(hash.clone()))
            .all(&self.reader)
            .await?
            .pop();
        if let Some(row) = current {
            return Ok(AgentKeyMatch::Key(Box::new(row)));
        }
        let in_grace = agent_key::Entity::find()
            .filter(agent_key::Column::PreviousSecretHash.eq(hash.clone()))
            .filter(agent_key::Column::PreviousValidUntil.gt(now))
            .all(&self.reader)
            .await?
            .pop();
        if let Some(row) = in_grace {
            return Ok(AgentKeyMatch::KeyInGrace(Box::new(row)));
        }
        let retired = retired_agent_secret::Entity::find_by_id(hash).all(&self.reader).await?.pop();
        Ok(match retired {
            Some(row) if row.is_deleted => AgentKeyMatch::Deleted,
            Some(_) => AgentKeyMatch::Regenerated,
            None => AgentKeyMatch::Unknown,
        })
    }

    /// True if the database is new: it has no tenant.
    pub async fn is_empty(&self) -> Result<bool, StoreError> {
        Ok(tenant::Entity::find().count(&self.reader).await? == 0)
    }

    /// Creates the first tenant and its owner's key.
    pub async fn bootstrap(&self, rows: Bootstrap) -> Result<(), StoreError> {
        self.writer
            .change(move |transaction| {
                let rows = rows.clone();
                Box::pin(async move {
                    tenant::Entity::insert(rows.tenant.into_active_model())
                        .exec_without_returning(transaction)
                        .await?;
                    let key = &rows.api_key;
                    record_secret(transaction, key, SecretMaker::default(), key.created_at).await?;
                    api_key::Entity::insert(rows.api_key.into_active_model())
                        .exec_without_returning(transaction)
                        .await?;
                    write_audit(transaction, rows.audit).await
                })
            })
            .await
    }

    /// Waits until everything that was queued is committed.
    pub async fn flush(&self) -> Result<(), StoreError> {
        self.writer.change(|_| Box::pin(async { Ok(()) })).await
    }
}
