//! Caches recently seen secrets, by hash, and offline agents, to save queries.
//!
//! Every change of a key invalidates its entries here after the commit. The time to live limits the
//! effect of a missed invalidation.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moka::sync::Cache;
use tokio::sync::watch;

use crate::domain::access::credential::SecretHash;
use crate::domain::access::principal::Principal;
use crate::domain::ids::{AgentId, TenantId};
use crate::hub::{HostRules, KeyGrant};
use crate::services::access::tenants::closed_tenants::ClosedTenants;

/// Most cached secrets of each kind.
const ENTRIES: u64 = 16_384;
/// How long an entry is cached.
const TIME_TO_LIVE: Duration = Duration::from_secs(30);

/// An offline agent, with what is needed to accept a command for it.
#[derive(Debug)]
pub struct OfflineAgentKey {
    pub grant: Arc<KeyGrant>,
    /// Capabilities of a full agent.
    pub capabilities: Option<Vec<String>>,
    /// The manifest that a full agent last reported.
    pub rules: Option<HostRules>,
}

/// The cache. Cheap to clone.
#[derive(Clone, Debug)]
pub struct KeyCache {
    principals: Cache<[u8; 32], Arc<Principal>>,
    /// The same entries without a time to live, for when the database is unavailable.
    last_known: Cache<[u8; 32], Arc<Principal>>,
    grants: Cache<[u8; 32], Arc<KeyGrant>>,
    targets: Cache<AgentId, Arc<OfflineAgentKey>>,
    /// Counts changes. A value that was read before a change is not cached after it.
    revision: Arc<AtomicU64>,
    /// Counts changes of API keys, for streams that outlive one request.
    principal_changes: Arc<watch::Sender<u64>>,
    closed_tenants: ClosedTenants,
}

impl Default for KeyCache {
    fn default() -> Self {
        fn cache<K, V>() -> Cache<K, V>
        where
            K: std::hash::Hash + Eq + Send + Sync + 'static,
            V: Clone + Send + Sync + 'static,
        {
            Cache::builder().max_capacity(ENTRIES).time_to_live(TIME_TO_LIVE).build()
        }
        Self {
            principals: cache(),
            last_known: Cache::new(ENTRIES),
            grants: cache(),
            targets: cache(),
            revision: Arc::default(),
            principal_changes: Arc::default(),
            closed_tenants: ClosedTenants::default(),
        }
    }
}

impl KeyCache {
    /// A principal that was seen before and whose key has not changed since, however long ago.
    pub fn last_known_principal(&self, hash: SecretHash) -> Option<Arc<Principal>> {
        self.last_known.get(&hash.0)
    }

    /// The current revision; read it before the database.
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::SeqCst)
    }

    pub fn principal(&self, hash: SecretHash) -> Option<Arc<Principal>> {
        self.principals.get(&hash.0)
    }

    /// Caches a principal. `read_at`: the revision before the database was read.
    pub fn remember_principal(&self, hash: SecretHash, known: Arc<Principal>, read_at: u64) {
        self.principals.insert(hash.0, Arc::clone(&known));
        self.last_known.insert(hash.0, known);
        if self.revision() != read_at {
            self.principals.invalidate(&hash.0);
            self.last_known.invalidate(&hash.0);
        }
    }

    pub fn grant(&self, hash: SecretHash) -> Option<Arc<KeyGrant>> {
        self.grants.get(&hash.0)
    }

    /// As [`Self::remember_principal`].
    pub fn remember_grant(&self, hash: SecretHash, grant: Arc<KeyGrant>, read_at: u64) {
        self.grants.insert(hash.0, grant);
        if self.revision() != read_at {
            self.grants.invalidate(&hash.0);
        }
    }

    pub fn offline_agent(&self, agent_id: AgentId) -> Option<Arc<OfflineAgentKey>> {
        self.targets.get(&agent_id)
    }

    /// As [`Self::remember_principal`].
    pub fn remember_offline_agent(
        &self,
        agent_id: AgentId,
        agent: Arc<OfflineAgentKey>,
        read_at: u64,
    ) {
        self.targets.insert(agent_id, agent);
        if self.revision() != read_at {
            self.targets.invalidate(&agent_id);
        }
    }

    /// An agent was changed or deleted, or its host's rules changed.
    pub fn forget_agent(&self, agent_id: AgentId) {
        self.revision.fetch_add(1, Ordering::SeqCst);
        self.targets.invalidate(&agent_id);
    }

    /// Keys change rarely and are cheap to read again, so a change removes all entries of a kind.
    pub fn forget_principals(&self) {
        self.revision.fetch_add(1, Ordering::SeqCst);
        self.principals.invalidate_all();
        self.last_known.invalidate_all();
        self.principal_changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// True for a tenant that is being deleted.
    pub fn is_closed(&self, id: TenantId) -> bool {
        self.closed_tenants.contains(id)
    }

    /// Refuses the keys of a tenant from now on, and ends what they have under way.
    pub fn close_tenant(&self, id: TenantId) {
        self.closed_tenants.insert(id);
        self.forget_principals();
        self.forget_grants();
    }

    /// Ends [`Self::close_tenant`].
    pub fn open_tenant(&self, id: TenantId) {
        self.closed_tenants.remove(id);
    }

    /// Expires all entries, as their time to live does.
    #[cfg(test)]
    pub fn let_principals_expire(&self) {
        self.principals.invalidate_all();
    }

    /// Changes whenever an API key changes.
    pub fn principal_changes(&self) -> watch::Receiver<u64> {
        self.principal_changes.subscribe()
    }

    /// As [`Self::forget_principals`], for agent keys.
    pub fn forget_grants(&self) {
        self.revision.fetch_add(1, Ordering::SeqCst);
        self.targets.invalidate_all();
        self.grants.invalidate_all();
    }
}
