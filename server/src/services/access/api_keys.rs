//! API keys: owners create and revoke them.
//!
//! A key outlives and outranks the key that created it in nothing, and revokes only what it could
//! have created.

use std::sync::Arc;

use muster_protocol::secret::API_KEY_PREFIX;
use serde_json::json;

use super::authentication::to_principal;
use super::caller::{Caller, Subject};
use super::key_cache::KeyCache;
use crate::domain::access::credential::NewSecret;
use crate::domain::access::principal::{Role, Scope};
use crate::domain::access::records::ApiKeyRecord;
use crate::domain::ids::ApiKeyId;
use crate::domain::name::check_name;
use crate::domain::page::{Page, PageRequest};
use crate::domain::time::{Clock, Timestamp};
use crate::hub::Hub;
use crate::services::error::{Result, ServiceError};
use crate::store::entities::access::api_key;
use crate::store::entities::column::StringList;
use crate::store::queries::{Revocation, RevocationScope};
use crate::store::{Store, StoreError};

/// Use cases of API keys.
#[derive(Clone, Debug)]
pub struct ApiKeys {
    pub(in crate::services) store: Store,
    pub(in crate::services) hub: Arc<Hub>,
    pub(in crate::services) cache: KeyCache,
    pub(in crate::services) clock: Clock,
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
}

/// A key with its secret, which is shown only once.
pub struct MadeApiKey {
    pub row: ApiKeyRecord,
    pub secret: String,
}

impl ApiKeys {
    /// Creates a key with at most the caller's own rights.
    ///
    /// # Errors
    /// [`ServiceError::Forbidden`] `role_not_held` for a role above the caller's, `scope_not_held`
    /// for a scope that the caller or the role does not have; 422 for a key that would expire after
    /// the caller's.
    pub async fn create(&self, caller: &Caller, new: NewApiKey) -> Result<MadeApiKey> {
        caller.require(Scope::ApiKeysWrite)?;
        let now = self.clock.now();
        check_name(&new.name).map_err(|problem| ServiceError::invalid_field("name", problem))?;
        if new.expires_at.is_some_and(|at| at <= now) {
            return Err(ServiceError::invalid_field("expires_at", "is in the past"));
        }
        let expires_at = new.expires_at.or(caller.principal.creations_end_at());
        if outlives(expires_at, caller) {
            return Err(ServiceError::invalid_field(
                "expires_at",
                "is after your own key expires, and a key can't outlive the key that created it",
            ));
        }
        if new.role.rank() > caller.principal.role.rank() {
            return Err(ServiceError::Forbidden {
                code: "role_not_held",
                detail: "a key can't have a higher role than the key that created it".into(),
            });
        }
        let allowed = new.role.scopes();
        let scopes = match new.scopes {
            Some(scopes) => scopes,
            None => {
                let default = new.role.tenant_scopes();
                default.intersection(&caller.principal.scopes).copied().collect()
            }
        };
        if let Some(scope) =
            scopes.iter().find(|scope| !allowed.contains(scope) || !caller.principal.may(**scope))
        {
            return Err(ServiceError::Forbidden {
                code: "scope_not_held",
                detail: format!("the role or your own key does not have the scope `{scope}`"),
            });
        }
        let secret = NewSecret::random(API_KEY_PREFIX)?;
        let row = api_key::Model {
            id: ApiKeyId::new(),
            tenant_id: caller.principal.tenant_id,
            name: new.name,
            prefix: secret.prefix,
            secret_hash: secret.hash.0.to_vec(),
            role: new.role,
            scopes: StringList(scopes.iter().map(Scope::to_string).collect()),
            created_at: now,
            created_by: Some(caller.principal.id),
            expires_at,
            revoked_at: None,
        };
        let detail = json!({"name": row.name, "role": row.role, "scopes": row.scopes, "expires_at": row.expires_at});
        let audit = caller.audit("api_key.create", subject(row.id), &detail, now);
        self.store.tenant(row.tenant_id).create_api_key(row.clone(), audit).await?;
        Ok(MadeApiKey { row: row.into(), secret: secret.secret })
    }

    /// One page of keys.
    pub async fn list(&self, caller: &Caller, page: PageRequest) -> Result<Page<ApiKeyRecord>> {
        caller.require(Scope::ApiKeysRead)?;
        let rows = self.store.tenant(caller.principal.tenant_id).api_keys(page).await?;
        Ok(Page::of(rows, page, |row| row.id.0).map(ApiKeyRecord::from))
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
        const UNKNOWN: ServiceError = ServiceError::NotFound("API key");
        caller.require(Scope::ApiKeysWrite)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let mut keys = vec![tenant.api_key(id).await?.ok_or(UNKNOWN)?];
        if scope.is_cascade {
            keys.extend(tenant.descendants_of_api_key(id).await?);
        }
        keys.iter().try_for_each(|key| check_held(caller, key))?;
        let now = self.clock.now();
        let audit = caller.audit("api_key.revoke", subject(id), &json!({}), now);
        let revocation = match tenant.revoke_api_key(id, scope, now, audit).await {
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
fn check_held(caller: &Caller, key: &api_key::Model) -> Result<()> {
    let scopes = to_principal(key.clone()).scopes;
    let is_held = scopes.is_subset(&caller.principal.scopes)
        && key.role.rank() <= caller.principal.role.rank()
        && !outlives(key.expires_at, caller);
    if is_held {
        return Ok(());
    }
    Err(ServiceError::Forbidden {
        code: "key_not_held",
        detail: format!(
            "the key `{}` has a higher role, more scopes or a later expiry than your own; use a key that could have created it",
            key.name
        ),
    })
}

/// True if a key with this expiry is valid longer than the caller's.
fn outlives(expires_at: Option<Timestamp>, caller: &Caller) -> bool {
    let own = caller.principal.creations_end_at();
    own.is_some_and(|own| expires_at.is_none_or(|at| at > own))
}

fn last_publisher() -> ServiceError {
    let scope = Scope::ReleasesManage;
    ServiceError::Conflict {
        code: "last_publisher",
        detail: format!(
            "this is the last key that can grant the scope `{scope}`, or the one that expires last; without it, releases could never be published again. First use it to create another key with `{scope}` and `{}` that expires no earlier",
            Scope::ApiKeysWrite
        ),
    }
}

fn subject(id: ApiKeyId) -> Subject {
    Subject { kind: "api_key", id: id.0 }
}
