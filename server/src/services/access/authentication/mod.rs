//! Authentication: finds the principal or the agent key of a secret.

mod degraded;
mod principals;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use muster_protocol::parameter::secret::{AGENT_KEY_PREFIX, API_KEY_PREFIX, is_well_formed};
use muster_protocol::{CloseCode, Permissions};

pub(in crate::services) use self::degraded::DATABASE_PATIENCE;
pub(in crate::services) use self::principals::{Credential, of_api_key, reread};
use super::keys::key_cache::KeyCache;
use super::keys::key_uses::KeyUses;
use super::keys::lookup_limiter::LookupLimiter;
use super::people::access_tokens::{AccessTokens, EXPIRED};
use super::tenants::closed_tenants;
use crate::domain::access::credential::{NewSecret, SecretHash};
use crate::domain::access::people::access_token::PresentedToken;
use crate::domain::access::principal::{Principal, Role, Scope};
use crate::domain::access::tenants::plan::Plan;
use crate::domain::ids::{ApiKeyId, TenantId};
use crate::domain::source::ClientSource;
use crate::domain::time::{Clock, Timestamp};
use crate::hub::KeyGrant;
use crate::services::access::caller::{AuditAction, Subject};
use crate::services::error::{Result, ServiceError};
use crate::store::entities::access::{agent_key, api_key, tenant};
use crate::store::entities::column::StringList;
use crate::store::queries::{AgentKeyMatch, Bootstrap};
use crate::store::{Store, StoreError};

/// Checks credentials.
#[derive(Clone, Debug)]
pub struct Authentication {
    pub(in crate::services) store: Store,
    pub(in crate::services) cache: KeyCache,
    pub(in crate::services) clock: Clock,
    pub(in crate::services) lookups: LookupLimiter,
    pub(in crate::services) uses: KeyUses,
    /// `None` at the terminal, where no caller is authenticated.
    pub(in crate::services) tokens: Option<AccessTokens>,
}

/// An agent key that was valid when it was read.
#[derive(Debug, Clone)]
pub struct AdmittedKey {
    pub grant: Arc<KeyGrant>,
    /// Of the secret. It is checked again when a session opens.
    pub secret_hash: SecretHash,
    /// Who presented it, if that is known.
    pub source: Option<ClientSource>,
}

/// Why an agent is refused.
#[derive(Debug, thiserror::Error)]
pub enum AgentRefusal {
    #[error("the agent was refused with {}", .0.reason())]
    Close(CloseCode),
    #[error("the agent was refused: its source presents too many unknown keys")]
    TooMany,
    #[error(transparent)]
    Store(#[from] StoreError),
}

const INVALID: ServiceError = ServiceError::Unauthenticated {
    code: "invalid_api_key",
    detail: "the API key is unknown; check it, or ask an owner for a new one",
};

impl Authentication {
    /// Checks the credentials of this store.
    pub fn new(store: Store, clock: Clock) -> Self {
        let (cache, lookups) = (KeyCache::default(), LookupLimiter::default());
        Self { store, cache, clock, lookups, uses: KeyUses::default(), tokens: None }
    }

    /// The principal of an API key or of an access token. `source`: who presents it, if that is known.
    ///
    /// # Errors
    /// [`ServiceError::Unauthenticated`] with the reason; [`ServiceError::TooMany`] if the source
    /// presents too many unknown keys.
    pub async fn authenticate_caller(
        &self,
        secret: &str,
        source: Option<ClientSource>,
    ) -> Result<Arc<Principal>> {
        let credential = self.credential(secret).await?;
        self.authenticate(credential, source).await
    }

    /// What a secret is. The signature of an access token is checked, unless it was before.
    pub(in crate::services) async fn credential(&self, secret: &str) -> Result<Credential> {
        let hash = SecretHash::of(secret);
        if is_well_formed(secret, API_KEY_PREFIX) {
            return Ok(Credential::ApiKey(hash));
        }
        let Some(tokens) = self.tokens.as_ref().filter(|_| PresentedToken::is_like(secret)) else {
            return Err(INVALID);
        };
        let known = self.cache.principal(hash);
        let known = known.and_then(|principal| Credential::of_token(hash, &principal));
        match known {
            Some(credential) => Ok(credential),
            None => Ok(Credential::AccessToken { hash, claims: tokens.verify(secret).await? }),
        }
    }

    pub(in crate::services) async fn authenticate(
        &self,
        credential: Credential,
        source: Option<ClientSource>,
    ) -> Result<Arc<Principal>> {
        if self.cache.principal(credential.hash()).is_none() && !self.may_look_up(source) {
            return Err(ServiceError::TooMany {
                code: "too_many_unknown_keys",
                detail: "too many unknown keys were sent from this address; check the key and try again later",
            });
        }
        let found = self.find_principal(credential).await;
        if let Err(ServiceError::Unauthenticated { code: "invalid_api_key", .. }) = &found {
            self.record_failure(source);
        }
        found
    }

    fn may_look_up(&self, source: Option<ClientSource>) -> bool {
        source.is_none_or(|source| self.lookups.may_look_up(source))
    }

    fn record_failure(&self, source: Option<ClientSource>) {
        if let Some(source) = source {
            self.lookups.record_failure(source);
        }
    }

    /// The principal of a credential, as [`Self::authenticate_caller`].
    pub(in crate::services) async fn find_principal(
        &self,
        credential: Credential,
    ) -> Result<Arc<Principal>> {
        let hash = credential.hash();
        let known = match self.cache.principal(hash) {
            Some(known) => known,
            None => {
                let read_at = self.cache.revision();
                let known = Arc::new(self.read_principal(credential).await?);
                self.cache.remember_principal(hash, Arc::clone(&known), read_at);
                known
            }
        };
        let admitted = self.admit_principal(known)?;
        if let Credential::ApiKey(hash) = credential {
            self.uses.record(hash, self.clock.now());
        }
        Ok(admitted)
    }

    /// The principal, unless its key or token has expired.
    fn admit_principal(&self, known: Arc<Principal>) -> Result<Arc<Principal>> {
        if known.expires_at.is_some_and(|at| at <= self.clock.now()) {
            return Err(match known.session_id() {
                Some(_) => EXPIRED,
                None => ServiceError::Unauthenticated {
                    code: "expired_api_key",
                    detail: "the API key has expired, or its secret was replaced by a rotation; use the new secret, or ask an owner for a new key",
                },
            });
        }
        Ok(known)
    }

    /// # Errors
    /// [`ServiceError::Forbidden`] `tenant_closed` for a tenant that is being deleted.
    pub fn require_open(&self, tenant_id: TenantId) -> Result<()> {
        if self.cache.is_closed(tenant_id) { Err(closed_tenants::refusal()) } else { Ok(()) }
    }

    /// The permissions of an agent key. `source`: who presents it, if that is known.
    ///
    /// # Errors
    /// [`AgentRefusal::Close`] with the code for the agent; [`AgentRefusal::TooMany`] if the source
    /// presents too many unknown keys.
    pub async fn authenticate_agent(
        &self,
        secret: &str,
        source: Option<ClientSource>,
    ) -> std::result::Result<AdmittedKey, AgentRefusal> {
        if !is_well_formed(secret, AGENT_KEY_PREFIX) {
            return Err(AgentRefusal::Close(CloseCode::KeyUnknown));
        }
        let hash = SecretHash::of(secret);
        let now = self.clock.now();
        let grant = match self.cache.grant(hash) {
            Some(grant) => grant,
            None if !self.may_look_up(source) => return Err(AgentRefusal::TooMany),
            None => {
                let read_at = self.cache.revision();
                let close = match self.store.system().find_agent_key(hash, now).await? {
                    AgentKeyMatch::Key(row) => {
                        let grant = Arc::new(to_grant(&row));
                        self.cache.remember_grant(hash, Arc::clone(&grant), read_at);
                        return self.admit(grant, (hash, source), now);
                    }
                    // Not cached, because it may expire at any moment.
                    AgentKeyMatch::KeyInGrace(row) => {
                        return self.admit(Arc::new(to_grant(&row)), (hash, source), now);
                    }
                    AgentKeyMatch::Deleted => CloseCode::KeyDeleted,
                    AgentKeyMatch::Regenerated => CloseCode::KeyRegenerated,
                    AgentKeyMatch::Unknown => CloseCode::KeyUnknown,
                };
                self.record_failure(source);
                return Err(AgentRefusal::Close(close));
            }
        };
        self.admit(grant, (hash, source), now)
    }

    /// The key, unless its tenant is being deleted.
    fn admit(
        &self,
        grant: Arc<KeyGrant>,
        presented: (SecretHash, Option<ClientSource>),
        now: Timestamp,
    ) -> std::result::Result<AdmittedKey, AgentRefusal> {
        if self.cache.is_closed(grant.tenant_id) {
            return Err(AgentRefusal::Close(CloseCode::TenantClosed));
        }
        admit(grant, presented, now)
    }

    /// Creates the first tenant and its owner's API key, only in an empty database.
    ///
    /// The key is `chosen`, or generated and written to `<data_dir>/bootstrap_key` (0600) before
    /// the commit, so that every existing key can be read by the operator. Returns a generated key.
    ///
    /// # Errors
    /// [`ServiceError::Invalid`] if the chosen key is malformed or the file cannot be written.
    pub async fn bootstrap(&self, data_dir: &Path, chosen: Option<&str>) -> Result<Option<String>> {
        if !self.store.system().is_empty().await? {
            return Ok(None);
        }
        let secret = match chosen {
            Some(text) if is_well_formed(text, API_KEY_PREFIX) => {
                NewSecret::from_text(text.to_owned(), API_KEY_PREFIX)
            }
            Some(_) => {
                return Err(ServiceError::Invalid {
                    code: "invalid_bootstrap_key",
                    detail: "MUSTER_BOOTSTRAP_KEY must be `mst_live_` followed by 32 to 128 letters, digits, `_` or `-`".into(),
                });
            }
            None => NewSecret::random(API_KEY_PREFIX)?,
        };
        if chosen.is_none() {
            write_key_file(&data_dir.join("bootstrap_key"), &secret.secret).map_err(|error| {
                ServiceError::Invalid {
                    code: "data_dir_not_writable",
                    detail: format!(
                        "failed to write the first API key to the data directory: {error}"
                    ),
                }
            })?;
        }
        self.store.system().bootstrap(self.first_rows("default", &secret, Role::scopes)).await?;
        Ok(chosen.is_none().then_some(secret.secret))
    }

    pub(in crate::services) fn first_rows(
        &self,
        name: &str,
        secret: &NewSecret,
        scopes: impl Fn(Role) -> BTreeSet<Scope>,
    ) -> Bootstrap {
        let now = self.clock.now();
        let tenant = tenant::Model {
            id: TenantId::new(),
            name: name.into(),
            plan: Plan::DEFAULT,
            created_at: now,
            delete_at: None,
            is_deleted_by_operator: false,
            requires_second_factor: false,
            passes_schedules_on: false,
            storage_quota_bytes: None,
            manifest_bytes: 0,
            manifest_scripts: 0,
        };
        let api_key = api_key::Model {
            id: ApiKeyId::new(),
            tenant_id: tenant.id,
            name: "bootstrap".into(),
            prefix: secret.prefix.clone(),
            secret_hash: secret.hash.0.to_vec(),
            role: Role::Owner,
            scopes: StringList(scopes(Role::Owner).iter().map(Scope::to_string).collect()),
            created_at: now,
            created_by: None,
            expires_at: None,
            revoked_at: None,
            limits: None,
            previous_secret_hash: None,
            previous_prefix: None,
            previous_valid_until: None,
            rotated_by: None,
            last_used_at: None,
            previous_used_at: None,
        };
        let audit = AuditAction {
            tenant_id: tenant.id,
            action: "tenant.create",
            subject: Subject { kind: "tenant", id: tenant.id.0 },
            detail: &serde_json::json!({}),
            at: now,
        }
        .by_system();
        Bootstrap { tenant, api_key, audit }
    }
}

/// The permissions of a key's row.
pub(in crate::services) fn to_grant(row: &agent_key::Model) -> KeyGrant {
    let permissions = row.permissions.0.iter().filter_map(|name| name.parse().ok());
    KeyGrant {
        key_id: row.id,
        tenant_id: row.tenant_id,
        permissions: Permissions::new(permissions),
        max_agents: row.max_agents,
        is_disabled: row.is_disabled,
        expires_at: row.expires_at,
    }
}

fn admit(
    grant: Arc<KeyGrant>,
    (secret_hash, source): (SecretHash, Option<ClientSource>),
    now: Timestamp,
) -> std::result::Result<AdmittedKey, AgentRefusal> {
    if grant.is_disabled {
        return Err(AgentRefusal::Close(CloseCode::KeyDisabled));
    }
    if grant.expires_at.is_some_and(|at| at <= now) {
        return Err(AgentRefusal::Close(CloseCode::KeyExpired));
    }
    Ok(AdmittedKey { grant, secret_hash, source })
}

pub(in crate::services) fn write_key_file(path: &Path, secret: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
    let mut file =
        std::fs::File::options().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    // The mode above only applies to new files.
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    writeln!(file, "{secret}")?;
    file.sync_all()
}
