//! The writer's cache of epochs, and the sessions whose writes have failed.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::ids::AgentId;

/// Most agents whose epoch is cached.
const MAX_CACHED: usize = 65_536;

/// The newest session of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NewestSession {
    pub epoch: i64,
    /// False after its end.
    pub is_open: bool,
}

/// Epochs that earlier transactions read.
///
/// Only the writer changes epochs, so the cache is valid until it opens or closes a session, changes an
/// agent or fails a transaction. Each of these clears it, and the end of a session its agent.
#[derive(Default)]
pub(super) struct EpochCache {
    newest: Mutex<HashMap<AgentId, NewestSession>>,
    /// Sessions of which a write has failed: at most one for each agent, until its next session.
    failed: Mutex<HashMap<AgentId, i64>>,
}

impl EpochCache {
    pub(super) fn clear(&self) {
        self.map().clear();
    }

    /// Forgets agents whose sessions have ended.
    pub(super) fn forget(&self, agents: &[AgentId]) {
        let mut known = self.map();
        for agent_id in agents {
            known.remove(agent_id);
        }
    }

    /// Records a failed write of a session. Its later writes may already be queued and must fail too:
    /// a result must not end a command whose output is incomplete.
    pub(super) fn mark_failed(&self, agent_id: AgentId, epoch: i64) {
        let mut failed = self.failed();
        let last = failed.entry(agent_id).or_insert(epoch);
        *last = epoch.max(*last);
    }

    /// Returns the cached epochs, and removes their agents from `ids`.
    pub(super) fn take_known(&self, ids: &mut Vec<AgentId>) -> HashMap<AgentId, NewestSession> {
        let known = self.map();
        let mut found = HashMap::with_capacity(ids.len());
        ids.retain(|id| known.get(id).is_none_or(|newest| found.insert(*id, *newest).is_some()));
        found
    }

    pub(super) fn remember(&self, rows: &[(AgentId, NewestSession)]) {
        let mut known = self.map();
        if known.len() + rows.len() > MAX_CACHED {
            known.clear();
        }
        known.extend(rows.iter().copied());
        let mut failed = self.failed();
        for (agent_id, newest) in rows {
            if failed.get(agent_id).is_some_and(|failed| *failed < newest.epoch) {
                failed.remove(agent_id);
            }
        }
    }

    pub(super) fn failed_among(&self, ids: &[AgentId]) -> HashMap<AgentId, i64> {
        let failed = self.failed();
        ids.iter()
            .filter_map(|id| failed.get_key_value(id))
            .map(|(id, epoch)| (*id, *epoch))
            .collect()
    }

    fn map(&self) -> MutexGuard<'_, HashMap<AgentId, NewestSession>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self) -> MutexGuard<'_, HashMap<AgentId, i64>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
