//! API keys: owners create and revoke them.
//!
//! A key outlives and outranks the key that created it in nothing, and revokes only what it could
//! have created.

use std::sync::Arc;

use muster_protocol::parameter::secret::API_KEY_PREFIX;
use serde_json::{Value, json};

use super::key_cache::KeyCache;
use super::key_uses::KeyUses;
use super::requested_limits::RequestedLimits;
use crate::domain::access::credential::NewSecret;
use crate::domain::access::keys::key_rights::KeyRights;
use crate::domain::access::principal::{Role, Scope};
use crate::domain::access::records::ApiKeyRecord;
use crate::domain::ids::ApiKeyId;
use crate::domain::name::check_name;
use crate::domain::page::{Page, PageRequest};
use crate::domain::time::{Clock, Timestamp};
use crate::hub::Hub;
use crate::services::access::caller::{Caller, Subject};
use crate::services::access::people::confirmation::require_confirmed_if_person;
use crate::services::error::{Result, ServiceError};
use crate::store::entities::access::api_key;
use crate::store::entities::column::StringList;
use crate::store::queries::{CreatedApiKey, Revocation, RevocationScope};
use crate::store::{Store, StoreError};

/// Use cases of API keys.
#[derive(Clone, Debug)]
pub struct ApiKeys {
    pub(in crate::services) store: Store,
    pub(in crate::services) hub: Arc<Hub>,
    pub(in crate::services) cache: KeyCache,
    pub(in crate::services) clock: Clock,
    pub(in crate::services) uses: KeyUses,
}

/// A new key.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    pub name: String,
    pub role: Role,
    /// `None`: all scopes of the role within its tenant. Those of the operator must be named.
    pub scopes: Option<Vec<Scope>>,
    /// `None`: when the caller's key expires.
    pub expires_at: Option<Timestamp>,
    /// In addition to those of the caller's key.
    pub limits: RequestedLimits,
}

/// A key with its secret, which is shown only once.
pub struct MadeApiKey {
    pub row: ApiKeyRecord,
    pub secret: String,
}

pub(super) const UNKNOWN: ServiceError = ServiceError::NotFound("API key");

impl ApiKeys {
    /// Creates a key with at most the caller's own rights. A key outlasts a session, so a person proves the
    /// password.
    ///
    /// # Errors
    /// [`ServiceError::Forbidden`] `role_not_held` for a role above the caller's, `scope_not_held`
    /// for a scope that the caller or the role does not have, `limit_not_held` for a wider limit than
    /// the caller's; 422 for a key that would expire after the caller's.
    pub async fn create(&self, caller: &Caller, new: NewApiKey) -> Result<MadeApiKey> {
        caller.require(Scope::ApiKeysWrite)?;
        require_confirmed_if_person(&self.store, &self.clock, caller).await?;
        let now = self.clock.now();
        check_name(&new.name).map_err(|problem| ServiceError::invalid_field("name", problem))?;
        if new.expires_at.is_some_and(|at| at <= now) {
            return Err(ServiceError::invalid_field("expires_at", "is in the past"));
        }
        let expires_at = new.expires_at.or(KeyRights::of(&caller.principal).expires_at);
        if outlives(expires_at, caller) {
            return Err(ServiceError::invalid_field(
                "expires_at",
                "is after your own key expires, and a key can't outlive the key that created it",
            ));
        }
        check_role(new.role, caller)?;
        let scopes = match new.scopes {
            Some(scopes) => {
                check_scopes(&scopes, new.role, caller)?;
                scopes.into_iter().collect()
            }
            None => {
                let default = new.role.tenant_scopes();
                default.intersection(&caller.principal.scopes).copied().collect()
            }
        };
        let limits = new.limits.within(&caller.principal.limits)?;
        let secret = NewSecret::random(API_KEY_PREFIX)?;
        let rights = KeyRights { role: new.role, scopes, expires_at, limits };
        let row = api_key::Model {
            id: ApiKeyId::new(),
            tenant_id: caller.principal.tenant_id,
            name: new.name,
            prefix: secret.prefix,
            secret_hash: secret.hash.0.to_vec(),
            role: new.role,
            scopes: StringList::default(),
            created_at: now,
            created_by: Some(caller.principal.id),
            expires_at,
            revoked_at: None,
            limits: None,
            previous_secret_hash: None,
            previous_prefix: None,
            previous_valid_until: None,
            rotated_by: None,
            last_used_at: None,
            previous_used_at: None,
        }
        .with_rights(rights);
        let presented = caller.principal.secret_hash;
        let audit = caller.audit("api_key.create", subject(row.id), &detail(&row), now);
        match self.store.tenant(row.tenant_id).create_api_key(row.clone(), presented, audit).await?
        {
            CreatedApiKey::Stored => {
                Ok(MadeApiKey { row: self.record(row), secret: secret.secret })
            }
            CreatedApiKey::MakerChanged => Err(key_changed()),
        }
    }

    /// One page of keys.
    pub async fn list(&self, caller: &Caller, page: PageRequest) -> Result<Page<ApiKeyRecord>> {
        caller.require(Scope::ApiKeysRead)?;
        let rows = self.store.tenant(caller.principal.tenant_id).api_keys(page).await?;
        let mut page = Page::of(rows, page, |row| row.id.0).map(|row| self.record(row));
        self.add_names(caller, &mut page.items).await?;
        Ok(page)
    }

    /// One key that is not revoked.
    pub async fn get(&self, caller: &Caller, id: ApiKeyId) -> Result<ApiKeyRecord> {
        caller.require(Scope::ApiKeysRead)?;
        let row = self.store.tenant(caller.principal.tenant_id).api_key(id).await?;
        let mut record = self.record(row.ok_or(UNKNOWN)?);
        self.add_names(caller, std::slice::from_mut(&mut record)).await?;
        Ok(record)
    }

    /// Adds the names of who created the keys.
    async fn add_names(&self, caller: &Caller, keys: &mut [ApiKeyRecord]) -> Result<()> {
        let ids = keys.iter().filter_map(|key| key.created_by).collect();
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let names = tenant.principal_names(ids).await?;
        for key in keys {
            key.created_by_name = key.created_by.and_then(|id| names.get(&id).cloned());
        }
        Ok(())
    }

    /// What is shown of a row: with uses that are not stored yet, and without a previous secret that
    /// has ended.
    pub(super) fn record(&self, row: api_key::Model) -> ApiKeyRecord {
        let used_at = self.uses.last(&row.secret_hash);
        let previous_hash = row.previous_secret_hash.as_deref().unwrap_or_default();
        let previous_used_at = self.uses.last(previous_hash);
        let now = self.clock.now();
        let mut record = ApiKeyRecord::from(row);
        record.last_used_at = record.last_used_at.max(used_at).max(previous_used_at);
        record.previous_secret = record.previous_secret.filter(|secret| secret.valid_until > now);
        if let Some(secret) = &mut record.previous_secret {
            secret.last_used_at = secret.last_used_at.max(previous_used_at);
        }
        record
    }

    /// Revokes a key. It is invalid when this returns, and nothing that it queued is sent after
    /// that, unless another key takes its rollouts and groups over by resuming them.
    ///
    /// # Errors
    /// 403 `key_not_held` if the caller could not have created the key, or one that is revoked with
    /// it; 409 `last_publisher` if no remaining key could publish releases.
    pub async fn revoke(
        &self,
        caller: &Caller,
        id: ApiKeyId,
        scope: RevocationScope,
    ) -> Result<Revocation> {
        caller.require(Scope::ApiKeysWrite)?;
        let now = self.clock.now();
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let mut keys = vec![tenant.api_key(id).await?.ok_or(UNKNOWN)?];
        if scope.is_cascade {
            keys.extend(tenant.keys_known_to_api_key(id, now).await?);
        }
        keys.iter().try_for_each(|key| check_held(caller, key))?;
        let presented = caller.principal.secret_hash;
        let audit = caller.audit("api_key.revoke", subject(id), &json!({}), now);
        let revocation = match tenant.revoke_api_key(id, scope, presented, now, audit).await {
            Err(StoreError::Refused(_)) => return Err(last_publisher()),
            revoked => revoked?.ok_or(UNKNOWN)?,
        };
        self.cache.forget_principals();
        for (command_id, job_id) in &revocation.cancelled {
            self.hub.notify_ended(*command_id, *job_id);
        }
        revocation.paused_jobs.iter().for_each(|id| self.hub.notify_job_changed(*id));
        Ok(revocation)
    }
}

/// # Errors
/// 403 `key_not_held` if the caller could not have created the key.
pub(in crate::services) fn check_held(caller: &Caller, key: &api_key::Model) -> Result<()> {
    if key.rights().is_within(&KeyRights::of(&caller.principal)) {
        return Ok(());
    }
    Err(ServiceError::Forbidden {
        code: "key_not_held",
        detail: format!(
            "the key `{}` has a higher role, more scopes, wider limits or a later expiry than your own; use a key that could have created it",
            key.name
        ),
    })
}

pub(super) fn check_role(role: Role, caller: &Caller) -> Result<()> {
    if role.rank() <= caller.principal.role.rank() {
        return Ok(());
    }
    Err(ServiceError::Forbidden {
        code: "role_not_held",
        detail: "a key can't have a higher role than the key that created it".into(),
    })
}

pub(super) fn check_scopes(scopes: &[Scope], role: Role, caller: &Caller) -> Result<()> {
    let allowed = role.scopes();
    let is_missing = |scope: &&Scope| !allowed.contains(scope) || !caller.principal.may(**scope);
    match scopes.iter().find(is_missing) {
        None => Ok(()),
        Some(scope) => Err(ServiceError::Forbidden {
            code: "scope_not_held",
            detail: format!("the role or your own key does not have the scope `{scope}`"),
        }),
    }
}

/// True if a key with this expiry is valid longer than the caller's.
pub(super) fn outlives(expires_at: Option<Timestamp>, caller: &Caller) -> bool {
    let own = KeyRights::of(&caller.principal).expires_at;
    own.is_some_and(|own| expires_at.is_none_or(|at| at > own))
}

pub(super) fn last_publisher() -> ServiceError {
    let scope = Scope::ReleasesManage;
    ServiceError::Conflict {
        code: "last_publisher",
        detail: format!(
            "this is the last key that can grant the scope `{scope}`, or the one that expires last; without it, releases could never be published again. First use it to create another key with `{scope}` and `{}` that expires no earlier",
            Scope::ApiKeysWrite
        ),
    }
}

pub(super) fn subject(id: ApiKeyId) -> Subject {
    Subject { kind: "api_key", id: id.0 }
}

/// What the audit log says about the rights of a key.
pub(super) fn detail(row: &api_key::Model) -> Value {
    json!({
        "name": row.name, "role": row.role, "scopes": row.scopes, "expires_at": row.expires_at,
        "limits": row.limits(),
    })
}

pub(super) fn key_changed() -> ServiceError {
    ServiceError::Conflict {
        code: "api_key_changed",
        detail: "this key, the key that created it or your own was changed at the same time; read it and try again".into(),
    }
}
