//! Changes of API keys: their rights, and their secrets.
//!
//! A caller changes and rotates only keys that it could have created, because the new secret of a key is
//! as good as the key. A change leaves a key within the key that created it, and narrows the keys that it
//! created.

use muster_protocol::parameter::secret::API_KEY_PREFIX;
use serde_json::json;

use super::api_keys::{
    ApiKeys, MadeApiKey, UNKNOWN, check_held, check_role, check_scopes, detail, key_changed,
    last_publisher, outlives, subject,
};
use super::requested_limits::RequestedLimits;
use crate::domain::access::credential::NewSecret;
use crate::domain::access::keys::key_rights::KeyRights;
use crate::domain::access::principal::{Role, Scope};
use crate::domain::access::records::ApiKeyRecord;
use crate::domain::ids::{ApiKeyId, PrincipalId};
use crate::domain::name::check_name;
use crate::domain::time::Timestamp;
use crate::services::access::caller::Caller;
use crate::services::access::people::confirmation::require_confirmed_if_person;
use crate::services::error::{Result, ServiceError};
use crate::store::StoreError;
use crate::store::entities::access::api_key;
use crate::store::queries::{ApiKeyChange, ApiKeyRotation, ChangedApiKey};

/// Longest time that a replaced secret may stay valid: seven days.
pub const MAX_OVERLAP_MS: u64 = 7 * 24 * 3_600_000;

/// What to change. `None` keeps the value; `Some(None)` removes it, as far as the key that created this
/// one allows.
#[derive(Debug, Clone, Default)]
pub struct RequestedChange {
    pub name: Option<String>,
    pub role: Option<Role>,
    pub scopes: Option<Vec<Scope>>,
    pub expires_at: Option<Option<Timestamp>>,
    pub target: Option<Option<String>>,
    pub scripts: Option<Option<Vec<String>>>,
    pub max_fan_out: Option<Option<u32>>,
}

/// A changed key.
#[derive(Debug, Clone)]
pub struct ChangedKey {
    pub row: ApiKeyRecord,
    /// Keys that it created and that have fewer rights now.
    pub narrowed: Vec<ApiKeyId>,
}

impl ApiKeys {
    /// Changes a key.
    ///
    /// # Errors
    /// As [`ApiKeys::create`]; 403 `key_not_held` if the caller could not have created the key, or one
    /// of its new rights is more than the key has that created it; 409 `api_key_changed`,
    /// `last_publisher`.
    pub async fn update(
        &self,
        caller: &Caller,
        id: ApiKeyId,
        change: RequestedChange,
    ) -> Result<ChangedKey> {
        caller.require(Scope::ApiKeysWrite)?;
        let now = self.clock.now();
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let known = tenant.api_key(id).await?.ok_or(UNKNOWN)?;
        check_held(caller, &known)?;
        let maker = match known.created_by {
            Some(PrincipalId(id)) => tenant.api_key_with_revoked(ApiKeyId(id)).await?,
            None => None,
        };
        let maker = maker.map(|maker| maker.rights());
        let changed = changed_row(caller, &known, maker.as_ref(), change, now)?;
        if !changed.rights().is_within(&known.rights()) {
            require_confirmed_if_person(&self.store, &self.clock, caller).await?;
        }
        let presented = caller.principal.secret_hash;
        let audit = caller.audit("api_key.update", subject(id), &detail(&changed), now);
        let change = ApiKeyChange { known, changed: changed.clone(), presented, now };
        let narrowed = match tenant.change_api_key(change, audit).await {
            Err(StoreError::Refused(_)) => return Err(last_publisher()),
            Ok(ChangedApiKey::Changed) => return Err(key_changed()),
            Ok(ChangedApiKey::Done { narrowed }) => narrowed,
            Err(error) => return Err(error.into()),
        };
        self.cache.forget_principals();
        Ok(ChangedKey { row: self.record(changed), narrowed })
    }

    /// Replaces the secret of a key. The old one stays valid for `grace_ms`; one that is still valid
    /// from an earlier rotation ends now.
    ///
    /// # Errors
    /// 403 `key_not_held` if the caller could not have created the key, `previous_secret` for a key that
    /// presents its secret before the last rotation.
    pub async fn rotate(&self, caller: &Caller, id: ApiKeyId, grace_ms: u64) -> Result<MadeApiKey> {
        caller.require(Scope::ApiKeysWrite)?;
        if grace_ms > MAX_OVERLAP_MS {
            return Err(ServiceError::out_of_range("grace_ms", grace_ms, 0..=MAX_OVERLAP_MS));
        }
        require_confirmed_if_person(&self.store, &self.clock, caller).await?;
        let now = self.clock.now();
        let tenant = self.store.tenant(caller.principal.tenant_id);
        check_held(caller, &tenant.api_key(id).await?.ok_or(UNKNOWN)?)?;
        let secret = NewSecret::random(API_KEY_PREFIX)?;
        let rotation = ApiKeyRotation {
            hash: secret.hash,
            prefix: secret.prefix.clone(),
            by: caller.principal.id,
            presented: caller.principal.secret_hash,
            now,
            previous_valid_until: now.plus_ms(grace_ms),
        };
        let audit =
            caller.audit("api_key.rotate", subject(id), &json!({"grace_ms": grace_ms}), now);
        let row = tenant.rotate_api_key(id, rotation, audit).await?.ok_or(UNKNOWN)?;
        self.cache.forget_principals();
        Ok(MadeApiKey { row: self.record(row), secret: secret.secret })
    }

    /// Ends the secret before the last rotation at once. Repeatable.
    ///
    /// # Errors
    /// As [`ApiKeys::rotate`].
    pub async fn end_previous_secret(&self, caller: &Caller, id: ApiKeyId) -> Result<ApiKeyRecord> {
        caller.require(Scope::ApiKeysWrite)?;
        let now = self.clock.now();
        let tenant = self.store.tenant(caller.principal.tenant_id);
        check_held(caller, &tenant.api_key(id).await?.ok_or(UNKNOWN)?)?;
        let audit = caller.audit("api_key.rotate", subject(id), &json!({"ended": "previous"}), now);
        let row = tenant
            .end_previous_secret(id, caller.principal.secret_hash, now, audit)
            .await?
            .ok_or(UNKNOWN)?;
        self.cache.forget_principals();
        Ok(self.record(row))
    }
}

/// The row with the requested changes. `maker`: the rights of the key that created it.
fn changed_row(
    caller: &Caller,
    known: &api_key::Model,
    maker: Option<&KeyRights>,
    change: RequestedChange,
    now: Timestamp,
) -> Result<api_key::Model> {
    let mut rights = known.rights();
    if let Some(role) = change.role {
        check_role(role, caller)?;
        rights.role = role;
        rights.scopes.retain(|scope| role.scopes().contains(scope));
    }
    if let Some(scopes) = change.scopes {
        check_scopes(&scopes, rights.role, caller)?;
        rights.scopes = scopes.into_iter().collect();
    }
    if let Some(expires_at) = change.expires_at {
        if expires_at.is_some_and(|at| at <= now) {
            return Err(ServiceError::invalid_field(
                "expires_at",
                "is in the past; to end the key now, revoke it",
            ));
        }
        rights.expires_at = expires_at;
        if outlives(expires_at, caller) {
            return Err(ServiceError::invalid_field(
                "expires_at",
                "is after your own key expires; give an earlier time",
            ));
        }
    }
    let own = &caller.principal.limits;
    let bounds = maker.map_or_else(|| own.clone(), |maker| maker.limits.capped_by(own));
    let is_limit_changed =
        change.target.is_some() || change.scripts.is_some() || change.max_fan_out.is_some();
    if is_limit_changed {
        let requested = RequestedLimits {
            target: change.target.clone().flatten(),
            scripts: change.scripts.clone().flatten(),
            max_fan_out: change.max_fan_out.flatten(),
        };
        let mut limits = requested.within(&bounds)?;
        if change.target.is_none() {
            limits.targets.extend(rights.limits.targets.iter().cloned());
        }
        if change.scripts.is_none() {
            limits.scripts = rights.limits.scripts.clone();
        }
        if change.max_fan_out.is_none() {
            limits.max_fan_out = rights.limits.max_fan_out;
        }
        rights.limits = limits;
    }
    let row = known.clone().with_rights(rights);
    if maker.is_some_and(|maker| !row.rights().is_within(maker)) {
        return Err(ServiceError::Forbidden {
            code: "key_not_held",
            detail: "the key would have more than the key that created it; create a new key with your own instead".into(),
        });
    }
    match change.name {
        None => Ok(row),
        Some(name) => {
            check_name(&name).map_err(|problem| ServiceError::invalid_field("name", problem))?;
            Ok(api_key::Model { name, ..row })
        }
    }
}
