//! Changes of API keys: rights, secrets and their last use.
//!
//! Each change checks in its own transaction that no key has more than the key that created it, and
//! narrows the keys that the changed one created.

use std::collections::HashMap;

use sea_orm::{
    ActiveModelTrait as _, ActiveValue::Set, ColumnTrait as _, Condition, DatabaseTransaction,
    EntityTrait as _, IntoActiveModel as _, QueryFilter as _,
};

use super::key_lineage::{all_keys, check_last_publisher, descendants, publishes_less, rights_of};
use super::known_secrets::{SecretMaker, check_present_secret, record_secret};
use crate::domain::access::credential::SecretHash;
use crate::domain::access::keys::key_rights::KeyRights;
use crate::domain::ids::{ApiKeyId, PrincipalId, TenantId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::{api_key, audit_entry};
use crate::store::queries::{SystemScope, TenantScope};
use crate::store::requester::acting_key;
use crate::store::requester::write_audit;

/// A changed key, with the row that the change was computed from.
#[derive(Debug, Clone)]
pub struct ApiKeyChange {
    pub known: api_key::Model,
    pub changed: api_key::Model,
    /// The secret of the key that asks.
    pub presented: Option<SecretHash>,
    pub now: Timestamp,
}

/// The result of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangedApiKey {
    /// It is stored. `narrowed`: keys that the changed key created, directly or through others, and
    /// that have fewer rights now.
    Done { narrowed: Vec<ApiKeyId> },
    /// This key, the one that created it or the one that asks was changed or revoked at the same time.
    Changed,
}

/// A new secret of a key.
#[derive(Debug, Clone)]
pub struct ApiKeyRotation {
    pub hash: SecretHash,
    pub prefix: String,
    /// Who asked, and so knows the secret.
    pub by: PrincipalId,
    /// The secret of the key that asks.
    pub presented: Option<SecretHash>,
    pub now: Timestamp,
    pub previous_valid_until: Timestamp,
}

/// When secrets were last used.
pub type SecretUses = HashMap<[u8; 32], Timestamp>;

impl TenantScope {
    /// Changes the rights and the name of a key. `last_used_at` and secrets are left as they are.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if no remaining key could publish releases as long as before.
    pub async fn change_api_key(
        &self,
        change: ApiKeyChange,
        audit: audit_entry::Model,
    ) -> Result<ChangedApiKey, StoreError> {
        let tenant_id = self.tenant_id;
        self.writer
            .change(move |transaction| {
                let (change, audit) = (change.clone(), audit.clone());
                Box::pin(async move { apply(transaction, tenant_id, change, audit).await })
            })
            .await
    }

    /// Replaces the secret of a key that is not revoked; `None` if there is none. The secret before the
    /// previous one ends now.
    pub async fn rotate_api_key(
        &self,
        id: ApiKeyId,
        rotation: ApiKeyRotation,
        audit: audit_entry::Model,
    ) -> Result<Option<api_key::Model>, StoreError> {
        let tenant_id = self.tenant_id;
        self.writer
            .change(move |transaction| {
                let (rotation, audit) = (rotation.clone(), audit.clone());
                Box::pin(async move {
                    let Some(row) = find(transaction, tenant_id, id).await? else {
                        return Ok(None);
                    };
                    let rights = actor_rights(transaction, tenant_id, &audit).await?;
                    if rights.is_some_and(|rights| !row.rights().is_within(&rights)) {
                        return Err(StoreError::KeyInvalid);
                    }
                    check_present_secret(transaction, rotation.presented).await?;
                    let mut changed = row.clone().into_active_model();
                    changed.secret_hash = Set(rotation.hash.0.to_vec());
                    changed.prefix = Set(rotation.prefix.clone());
                    changed.previous_secret_hash = Set(Some(row.secret_hash));
                    changed.previous_prefix = Set(Some(row.prefix));
                    changed.previous_valid_until = Set(Some(rotation.previous_valid_until));
                    changed.previous_used_at = Set(row.last_used_at);
                    changed.rotated_by = Set(Some(rotation.by));
                    let row = changed.update(transaction).await?;
                    let ApiKeyRotation { by, presented, now, .. } = rotation;
                    let (id, session_id) = (Some(by), audit.session_id);
                    let maker = SecretMaker { id, presented, session_id };
                    record_secret(transaction, &row, maker, now).await?;
                    write_audit(transaction, audit).await?;
                    Ok(Some(row))
                })
            })
            .await
    }

    /// Ends the secret before the last rotation; `None` if there is no such key.
    pub async fn end_previous_secret(
        &self,
        id: ApiKeyId,
        presented: Option<SecretHash>,
        now: Timestamp,
        audit: audit_entry::Model,
    ) -> Result<Option<api_key::Model>, StoreError> {
        let tenant_id = self.tenant_id;
        self.writer
            .change(move |transaction| {
                let audit = audit.clone();
                Box::pin(async move {
                    let Some(row) = find(transaction, tenant_id, id).await? else {
                        return Ok(None);
                    };
                    check_present_secret(transaction, presented).await?;
                    let is_valid = row.previous_valid_until.is_some_and(|until| until > now);
                    if !is_valid {
                        return Ok(Some(row));
                    }
                    let mut changed = row.into_active_model();
                    changed.previous_valid_until = Set(Some(now));
                    let row = changed.update(transaction).await?;
                    write_audit(transaction, audit).await?;
                    Ok(Some(row))
                })
            })
            .await
    }
}

impl SystemScope {
    /// Stores when secrets of API keys were last used.
    pub async fn record_key_uses(&self, uses: SecretUses) -> Result<(), StoreError> {
        self.writer
            .change(move |transaction| {
                let uses = uses.clone();
                Box::pin(async move {
                    for (hash, at) in uses {
                        record_use(transaction, hash.to_vec(), at).await?;
                    }
                    Ok(())
                })
            })
            .await
    }
}

async fn record_use(
    transaction: &DatabaseTransaction,
    hash: Vec<u8>,
    at: Timestamp,
) -> Result<(), StoreError> {
    let is_secret = Condition::any()
        .add(api_key::Column::SecretHash.eq(hash.clone()))
        .add(api_key::Column::PreviousSecretHash.eq(hash.clone()));
    api_key::Entity::update_many()
        .col_expr(api_key::Column::LastUsedAt, at.0.into())
        .filter(is_secret)
        .exec(transaction)
        .await?;
    api_key::Entity::update_many()
        .col_expr(api_key::Column::PreviousUsedAt, at.0.into())
        .filter(api_key::Column::PreviousSecretHash.eq(hash))
        .exec(transaction)
        .await?;
    Ok(())
}

async fn apply(
    transaction: &DatabaseTransaction,
    tenant_id: TenantId,
    ApiKeyChange { known, changed, presented, now }: ApiKeyChange,
    audit: audit_entry::Model,
) -> Result<ChangedApiKey, StoreError> {
    check_present_secret(transaction, presented).await?;
    let mut all = all_keys(transaction, tenant_id).await?;
    let Some(stored) = all.iter_mut().find(|key| key.id == known.id) else {
        return Ok(ChangedApiKey::Changed);
    };
    let is_same = stored.name == known.name
        && stored.rights() == known.rights()
        && stored.revoked_at == known.revoked_at;
    if !is_same {
        return Ok(ChangedApiKey::Changed);
    }
    let before = stored.clone();
    *stored = changed.clone();
    let changed_rights = changed.rights();
    let bounds = [changed.created_by, acting_key(&audit).filter(|id| *id != changed.id.into())];
    let exceeds = |bound: &Option<PrincipalId>| {
        rights_of(&all, *bound).is_some_and(|bound| !changed_rights.is_within(&bound))
    };
    if bounds.iter().any(exceeds) {
        return Ok(ChangedApiKey::Changed);
    }
    // Makers before the keys that they created: a descendant is capped by its own maker, whose row in
    // `all` is already changed.
    let mut ended = vec![(before, changed.clone())];
    let mut narrowed = Vec::new();
    let mut left = descendants(all.clone(), known.id);
    left.sort_by_key(|key| key.created_at);
    let mut has_changed = true;
    while has_changed {
        has_changed = false;
        for key in &left {
            let Some(maker) = rights_of(&all, key.created_by) else { continue };
            let Some(row) = all.iter_mut().find(|row| row.id == key.id) else { continue };
            let capped = row.rights().capped_by(&maker);
            if capped != row.rights() {
                has_changed = true;
                *row = row.clone().with_rights(capped);
            }
        }
    }
    for key in left {
        let Some(row) = all.iter().find(|row| row.id == key.id) else { continue };
        if row.rights() != key.rights() {
            write_rights(transaction, row).await?;
            narrowed.push(row.id);
            ended.push((key, row.clone()));
        }
    }
    let weakened: Vec<_> = ended
        .into_iter()
        .filter(|(known, changed)| publishes_less(known, changed, now))
        .map(|(known, _)| known)
        .collect();
    check_last_publisher(transaction, &weakened, now).await?;
    write_rights(transaction, &changed).await?;
    write_audit(transaction, audit).await?;
    Ok(ChangedApiKey::Done { narrowed })
}

/// Writes name and rights, and leaves secrets and last use as they are stored now.
async fn write_rights(
    transaction: &DatabaseTransaction,
    row: &api_key::Model,
) -> Result<(), StoreError> {
    let changed = api_key::ActiveModel {
        id: Set(row.id),
        name: Set(row.name.clone()),
        role: Set(row.role),
        scopes: Set(row.scopes.clone()),
        expires_at: Set(row.expires_at),
        limits: Set(row.limits.clone()),
        ..Default::default()
    };
    api_key::Entity::update(changed).exec(transaction).await?;
    Ok(())
}

/// The rights of the key that asks; `None` if no key asks.
pub(super) async fn actor_rights(
    transaction: &DatabaseTransaction,
    tenant_id: TenantId,
    audit: &audit_entry::Model,
) -> Result<Option<KeyRights>, StoreError> {
    let Some(id) = acting_key(audit) else { return Ok(None) };
    let query =
        api_key::Entity::find_by_id(ApiKeyId(id.0)).filter(api_key::Column::TenantId.eq(tenant_id));
    Ok(query.all(transaction).await?.pop().map(|row| row.rights()))
}

async fn find(
    transaction: &DatabaseTransaction,
    tenant_id: TenantId,
    id: ApiKeyId,
) -> Result<Option<api_key::Model>, StoreError> {
    let query = api_key::Entity::find_by_id(id)
        .filter(api_key::Column::TenantId.eq(tenant_id))
        .filter(api_key::Column::RevokedAt.is_null());
    Ok(query.all(transaction).await?.pop())
}
