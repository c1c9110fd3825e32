//! Agent keys: create, change, regenerate and delete them, and close or update live sessions
//! accordingly.

use std::sync::Arc;

use muster_protocol::parameter::secret::AGENT_KEY_PREFIX;
use muster_protocol::{CloseCode, CommandName, Permissions};
use serde_json::json;

use super::key_cache::KeyCache;
use crate::domain::access::credential::NewSecret;
use crate::domain::access::principal::Scope;
use crate::domain::access::records::AgentKeyRecord;
use crate::domain::ids::AgentKeyId;
use crate::domain::name::{check_name, check_tags};
use crate::domain::page::{Page, PageRequest};
use crate::domain::time::{Clock, Timestamp};
use crate::hub::{Hub, Rekey, SessionMessage};
use crate::services::access::authentication::to_grant;
use crate::services::access::caller::{Caller, Subject};
use crate::services::access::work_guard::require_unlimited;
use crate::services::error::{Result, ServiceError};
use crate::store::Store;
use crate::store::entities::access::agent_key;
use crate::store::entities::column::StringList;
use crate::store::queries::AgentKeyChange;

/// Most agents that one key may have.
pub const MAX_AGENTS_OF_KEY: i32 = 100_000;
/// Longest time that a replaced secret may stay valid: seven days.
pub const MAX_GRACE_MS: u64 = 7 * 24 * 3_600_000;

/// Use cases of agent keys.
#[derive(Clone, Debug)]
pub struct AgentKeys {
    pub(in crate::services) store: Store,
    pub(in crate::services) hub: Arc<Hub>,
    pub(in crate::services) cache: KeyCache,
    pub(in crate::services) clock: Clock,
    pub(in crate::services) change_lock: Arc<tokio::sync::Mutex<()>>,
}

/// A new key.
#[derive(Debug, Clone)]
pub struct NewAgentKey {
    pub name: String,
    pub permissions: Option<Vec<CommandName>>,
    pub tags: Vec<String>,
    pub max_agents: Option<i32>,
    pub trusts_holders: bool,
    pub expires_at: Option<Timestamp>,
}

/// A key with its secret, which is shown only once.
pub struct MadeAgentKey {
    pub row: AgentKeyRecord,
    pub secret: String,
}

const UNKNOWN: ServiceError = ServiceError::NotFound("agent key");

impl AgentKeys {
    /// Creates a key.
    ///
    /// # Errors
    /// [`ServiceError::Invalid`] names the invalid field.
    pub async fn create(&self, caller: &Caller, new: NewAgentKey) -> Result<MadeAgentKey> {
        require(caller)?;
        let now = self.clock.now();
        let change = AgentKeyChange {
            name: Some(new.name.clone()),
            tags: Some(new.tags.clone()),
            max_agents: new.max_agents,
            expires_at: new.expires_at.map(Some),
            ..AgentKeyChange::default()
        };
        check(&change, now)?;
        let permissions = new.permissions.map_or_else(Permissions::default, Permissions::new);
        let secret = NewSecret::random(AGENT_KEY_PREFIX)?;
        let row = agent_key::Model {
            id: AgentKeyId::new(),
            tenant_id: caller.principal.tenant_id,
            name: new.name,
            prefix: secret.prefix,
            secret_hash: secret.hash.0.to_vec(),
            previous_secret_hash: None,
            previous_valid_until: None,
            permissions: StringList(permissions.iter().map(|name| name.to_string()).collect()),
            tags: StringList(new.tags),
            max_agents: new.max_agents.unwrap_or(1),
            trusts_holders: new.trusts_holders,
            is_disabled: false,
            created_at: now,
            expires_at: new.expires_at,
        };
        let detail = json!({
            "name": row.name, "permissions": row.permissions, "max_agents": row.max_agents,
            "trusts_holders": row.trusts_holders,
        });
        let audit = caller.audit("agent_key.create", subject(row.id), &detail, now);
        self.store.tenant(row.tenant_id).create_agent_key(row.clone(), audit).await?;
        Ok(MadeAgentKey { row: row.into(), secret: secret.secret })
    }

    /// One page of keys.
    pub async fn list(&self, caller: &Caller, page: PageRequest) -> Result<Page<AgentKeyRecord>> {
        caller.require(Scope::AgentKeysRead)?;
        let rows = self.store.tenant(caller.principal.tenant_id).agent_keys(page).await?;
        Ok(Page::of(rows, page, |row| row.id.0).map(AgentKeyRecord::from))
    }

    /// One key.
    pub async fn get(&self, caller: &Caller, id: AgentKeyId) -> Result<AgentKeyRecord> {
        caller.require(Scope::AgentKeysRead)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        Ok(tenant.agent_key(id).await?.ok_or(UNKNOWN)?.into())
    }

    /// Changes a key. Sessions of a disabled or expired key are closed at once.
    pub async fn update(
        &self,
        caller: &Caller,
        id: AgentKeyId,
        change: AgentKeyChange,
    ) -> Result<AgentKeyRecord> {
        require(caller)?;
        let now = self.clock.now();
        check(&change, now)?;
        let detail = json!({
            "name": change.name, "permissions": change.permissions, "tags": change.tags,
            "max_agents": change.max_agents, "trusts_holders": change.trusts_holders, "disabled": change.is_disabled,
            "expires_at": change.expires_at,
        });
        let audit = caller.audit("agent_key.update", subject(id), &detail, now);
        let tenant = self.store.tenant(caller.principal.tenant_id);
        // Sessions are notified in the order of the commits.
        let _lock = self.change_lock.lock().await;
        let row = tenant.update_agent_key(id, change, audit).await?.ok_or(UNKNOWN)?;
        self.cache.forget_grants();
        self.hub.bump_key_revision();
        let grant = Arc::new(to_grant(&row));
        for session in self.hub.sessions_of_key(id) {
            if *session.grant() == *grant {
                continue;
            }
            session.set_grant(Arc::clone(&grant));
            match () {
                () if grant.is_disabled => session.close(CloseCode::KeyDisabled),
                () if grant.expires_at.is_some_and(|at| at <= now) => {
                    session.close(CloseCode::KeyExpired);
                }
                () => session.send_or_spawn(SessionMessage::Grant(Arc::clone(&grant))),
            }
        }
        Ok(row.into())
    }

    /// Replaces a key's secret. With a grace period the old secret stays valid for the agents that are
    /// enrolled, and the connected full ones, which have proven their key pairs, receive the new one.
    /// Without it, every session of the key is closed.
    pub async fn regenerate(
        &self,
        caller: &Caller,
        id: AgentKeyId,
        grace_ms: u64,
    ) -> Result<MadeAgentKey> {
        require(caller)?;
        if grace_ms > MAX_GRACE_MS {
            return Err(ServiceError::out_of_range("grace_ms", grace_ms, 0..=MAX_GRACE_MS));
        }
        let now = self.clock.now();
        let secret = NewSecret::random(AGENT_KEY_PREFIX)?;
        let detail = json!({"grace_ms": grace_ms});
        let audit = caller.audit("agent_key.regenerate", subject(id), &detail, now);
        let until = (grace_ms > 0).then(|| now.plus_ms(grace_ms));
        let stored = (secret.hash.0.to_vec(), secret.prefix.clone());
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let row =
            tenant.regenerate_agent_key(id, stored, now, until, audit).await?.ok_or(UNKNOWN)?;
        self.cache.forget_grants();
        let rekey = Rekey { key: secret.secret.as_str().into(), grace_ms };
        self.hub.keep_rekey(id, until.map(|_| rekey.clone()));
        self.hub.bump_key_revision();
        for session in self.hub.sessions_of_key(id) {
            match until {
                Some(_) if session.is_full => {
                    session.send_or_spawn(SessionMessage::Rekey(Box::new(rekey.clone())));
                }
                // Basic agents cannot receive the new secret, so they keep running until the grace
                // period ends.
                Some(until) => session.expire_secret_at(until),
                None => session.close(CloseCode::KeyRegenerated),
            }
        }
        Ok(MadeAgentKey { row: row.into(), secret: secret.secret })
    }

    /// Deletes a key and closes its sessions.
    pub async fn delete(&self, caller: &Caller, id: AgentKeyId) -> Result<()> {
        require(caller)?;
        let now = self.clock.now();
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let key = tenant.agent_key(id).await?.ok_or(UNKNOWN)?;
        // The log names it after it is gone.
        let audit = caller.audit("agent_key.delete", subject(id), &json!({"name": key.name}), now);
        if !tenant.delete_agent_key(id, now, audit).await? {
            return Err(UNKNOWN);
        }
        self.cache.forget_grants();
        self.hub.bump_key_revision();
        for session in self.hub.sessions_of_key(id) {
            session.close(CloseCode::KeyDeleted);
        }
        Ok(())
    }
}

/// Refuses API keys with limits: an agent key could later admit agents beyond these limits.
fn require(caller: &Caller) -> Result<()> {
    caller.require(Scope::AgentKeysWrite)?;
    require_unlimited(caller, "the agents of an agent key change later")
}

fn subject(id: AgentKeyId) -> Subject {
    Subject { kind: "agent_key", id: id.0 }
}

fn check(change: &AgentKeyChange, now: Timestamp) -> Result<()> {
    if let Some(name) = &change.name {
        check_name(name).map_err(|problem| ServiceError::invalid_field("name", problem))?;
    }
    if let Some(tags) = &change.tags {
        check_tags(tags).map_err(|problem| ServiceError::invalid_field("tags", problem))?;
    }
    if let Some(count) = change.max_agents.filter(|count| !(1..=MAX_AGENTS_OF_KEY).contains(count))
    {
        let count = u64::try_from(count).unwrap_or(0);
        let bounds = 1..=u64::from(MAX_AGENTS_OF_KEY.unsigned_abs());
        return Err(ServiceError::out_of_range("max_agents", count, bounds));
    }
    if change.expires_at.flatten().is_some_and(|at| at <= now) {
        return Err(ServiceError::invalid_field(
            "expires_at",
            "is in the past; to end the key now, disable or delete it",
        ));
    }
    Ok(())
}
