//! Recently seen secrets, by hash, and agents that are away, so that what is known costs no query.
//!
//! Whoever changes a key forgets it here after the commit; the time to live bounds what a missed
//! call could do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moka::sync::Cache;
use tokio::sync::watch;

use crate::domain::access::credential::SecretHash;
use crate::domain::access::principal::Principal;
use crate::domain::ids::AgentId;
use crate::domain::time::Timestamp;
use crate::hub::{HostRules, KeyGrant};

/// Secrets of each kind that are remembered.
const ENTRIES: u64 = 16_384;
/// How long one is remembered.
const TIME_TO_LIVE: Duration = Duration::from_secs(30);

/// A principal, and until when its key holds.
#[derive(Debug)]
pub struct KnownPrincipal {
    pub principal: Arc<Principal>,
    pub expires_at: Option<Timestamp>,
}

/// An agent that is not connected, as far as sending it a command goes.
#[derive(Debug)]
pub struct OfflineAgentKey {
    pub grant: Arc<KeyGrant>,
    /// Of a full agent: what it can carry out.
    pub capabilities: Option<Vec<String>>,
    /// Of a full agent: what its host said last.
    pub rules: Option<HostRules>,
}

/// What is remembered. Cheap to clone.
#[derive(Clone, Debug)]
pub struct KeyCache {
    principals: Cache<[u8; 32], Arc<KnownPrincipal>>,
    /// The same without an end, for when the database is away.
    last_known: Cache<[u8; 32], Arc<KnownPrincipal>>,
    grants: Cache<[u8; 32], Arc<KeyGrant>>,
    targets: Cache<AgentId, Arc<OfflineAgentKey>>,
    /// Counts changes: what was read before one is not remembered after it.
    revision: Arc<AtomicU64>,
    /// Counts changes of API keys, for those who look on for longer than one request.
    principal_changes: Arc<watch::Sender<u64>>,
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
        }
    }
}

impl KeyCache {
    /// A principal that was known once and whose key was not changed since, however long ago.
    pub fn last_known_principal(&self, hash: SecretHash) -> Option<Arc<KnownPrincipal>> {
        self.last_known.get(&hash.0)
    }

    /// To be asked before the database is read.
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::SeqCst)
    }

    pub fn principal(&self, hash: SecretHash) -> Option<Arc<KnownPrincipal>> {
        self.principals.get(&hash.0)
    }

    /// `read_at`: the revision before the database was read.
    pub fn remember_principal(&self, hash: SecretHash, known: Arc<KnownPrincipal>, read_at: u64) {
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

    pub fn away_agent(&self, agent_id: AgentId) -> Option<Arc<OfflineAgentKey>> {
        self.targets.get(&agent_id)
    }

    /// As [`Self::remember_principal`].
    pub fn remember_away_agent(
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

    /// An agent was changed or deleted, or its host has other rules.
    pub fn forget_agent(&self, agent_id: AgentId) {
        self.revision.fetch_add(1, Ordering::SeqCst);
        self.targets.invalidate(&agent_id);
    }

    /// Keys change rarely and are cheap to read again: a change forgets all of a kind.
    pub fn forget_principals(&self) {
        self.revision.fetch_add(1, Ordering::SeqCst);
        self.principals.invalidate_all();
        self.last_known.invalidate_all();
        self.principal_changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// As when their time to live is over.
    #[cfg(test)]
    pub fn let_principals_expire(&self) {
        self.principals.invalidate_all();
    }

    /// Changes whenever an API key does.
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
