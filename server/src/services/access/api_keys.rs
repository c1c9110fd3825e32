//! API keys: owners create and revoke them.

use muster_protocol::secret::API_KEY_PREFIX;
use serde_json::json;

use super::caller::{Caller, Subject};
use super::key_cache::KeyCache;
use crate::domain::access::credential::NewSecret;
use crate::domain::access::principal::{Role, Scope};
use crate::domain::ids::ApiKeyId;
use crate::domain::name::check_name;
use crate::domain::page::{Page, PageRequest};
use crate::domain::time::{Clock, Timestamp};
use crate::services::error::{Result, ServiceError};
use crate::store::entities::access::api_key;
use crate::store::entities::column::StringList;
use crate::store::{Store, StoreError};

/// Use cases of API keys.
#[derive(Clone, Debug)]
pub struct ApiKeys {
    pub(in crate::services) store: Store,
    pub(in crate::services) cache: KeyCache,
    pub(in crate::services) clock: Clock,
}

/// A new key.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    pub name: String,
    pub role: Role,
    /// `None`: all scopes of the role, except those that must be requested by name.
    pub scopes: Option<Vec<Scope>>,
    pub expires_at: Option<Timestamp>,
}

/// A key with its secret, which is shown only once.
pub struct MadeApiKey {
    pub row: api_key::Model,
    pub secret: String,
}

impl ApiKeys {
    /// Creates a key with at most the caller's own rights.
    ///
    /// # Errors
    /// [`ServiceError::Forbidden`] `scope_not_held` for a scope that the caller or the role does
    /// not have.
    pub async fn create(&self, caller: &Caller, new: NewApiKey) -> Result<MadeApiKey> {
        caller.require(Scope::ApiKeysWrite)?;
        let now = self.clock.now();
        check_name(&new.name).map_err(|problem| ServiceError::invalid_field("name", problem))?;
        if new.expires_at.is_some_and(|at| at <= now) {
            return Err(ServiceError::invalid_field("expires_at", "is in the past"));
        }
        let allowed = new.role.scopes();
        let scopes = match new.scopes {
            Some(scopes) => scopes,
            None => allowed
                .intersection(&caller.principal.scopes)
                .filter(|scope| !scope.is_given_by_name())
                .copied()
                .collect(),
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
            expires_at: new.expires_at,
            revoked_at: None,
        };
        let detail = json!({"name": row.name, "role": row.role, "scopes": row.scopes});
        let audit = caller.audit("api_key.create", subject(row.id), &detail, now);
        self.store.tenant(row.tenant_id).create_api_key(row.clone(), audit).await?;
        Ok(MadeApiKey { row, secret: secret.secret })
    }

    /// One page of keys.
    pub async fn list(&self, caller: &Caller, page: PageRequest) -> Result<Page<api_key::Model>> {
        caller.require(Scope::ApiKeysRead)?;
        let rows = self.store.tenant(caller.principal.tenant_id).api_keys(page).await?;
        Ok(Page::of(rows, page, |row| row.id.0))
    }

    /// Revokes a key. It is invalid when this returns.
    ///
    /// # Errors
    /// 409 `last_publisher` if no remaining key could publish releases.
    pub async fn revoke(&self, caller: &Caller, id: ApiKeyId) -> Result<()> {
        caller.require(Scope::ApiKeysWrite)?;
        let now = self.clock.now();
        let audit = caller.audit("api_key.revoke", subject(id), &json!({}), now);
        let tenant = self.store.tenant(caller.principal.tenant_id);
        match tenant.revoke_api_key(id, now, audit).await {
            Err(StoreError::Refused(_)) => return Err(last_publisher()),
            revoked => revoked?.ok_or(ServiceError::NotFound("API key"))?,
        };
        self.cache.forget_principals();
        Ok(())
    }
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
