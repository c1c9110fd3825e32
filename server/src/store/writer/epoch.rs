//! Epoch checks: a session may write only while it is the newest one of its agent, and only until
//! one of its writes has failed.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sea_orm::{ColumnTrait as _, DbErr, EntityTrait as _, QueryFilter as _, QuerySelect as _};

use super::MAX_LIST;
use super::connection::WriteTx;
use super::rows::pad_to_power_of_two;
use crate::domain::ids::AgentId;
use crate::store::StoreError;
use crate::store::entities::fleet::agent;

/// The newest epochs of some agents.
pub(super) struct Epochs {
    newest: HashMap<AgentId, i64>,
    /// Epochs of sessions of which a write has failed.
    failed: HashMap<AgentId, i64>,
}

impl Epochs {
    /// Reads the epochs within a transaction.
    pub(super) async fn read(
        tx: &WriteTx<'_>,
        agents: impl IntoIterator<Item = AgentId>,
    ) -> Result<Self, DbErr> {
        let mut ids: Vec<_> = agents.into_iter().collect();
        ids.sort_unstable();
        ids.dedup();
        let failed = tx.epochs.failed_among(&ids);
        let mut newest = tx.epochs.take_known(&mut ids);
        for ids in ids.chunks(MAX_LIST) {
            let rows: Vec<(AgentId, i64)> = agent::Entity::find()
                .select_only()
                .column(agent::Column::Id)
                .column(agent::Column::Epoch)
                .filter(agent::Column::Id.is_in(pad_to_power_of_two(ids.iter().copied())))
                .filter(agent::Column::DeletedAt.is_null())
                .into_tuple()
                .all(tx.transaction)
                .await?;
            tx.epochs.remember(&rows);
            newest.extend(rows);
        }
        Ok(Self { newest, failed })
    }

    /// True unless the agent was deleted.
    pub(super) fn has(&self, agent_id: AgentId) -> bool {
        self.newest.contains_key(&agent_id)
    }

    /// True if this is the newest epoch of the agent.
    pub(super) fn is_current(&self, agent_id: AgentId, epoch: i64) -> bool {
        self.newest.get(&agent_id) == Some(&epoch)
    }

    /// True if this session may write: its epoch is the newest, and none of its writes has failed.
    pub(super) fn may_write(&self, agent_id: AgentId, epoch: i64) -> bool {
        self.check(agent_id, epoch).is_ok()
    }

    /// # Errors
    /// [`StoreError::StaleEpoch`] if a newer session exists, or the agent is gone;
    /// [`StoreError::Database`] if an earlier write of the session has failed.
    pub(super) fn check(&self, agent_id: AgentId, epoch: i64) -> Result<(), StoreError> {
        if !self.is_current(agent_id, epoch) {
            return Err(StoreError::StaleEpoch);
        }
        if self.failed.get(&agent_id) == Some(&epoch) {
            let text = "an earlier write of this session has failed";
            return Err(StoreError::Database(DbErr::Custom(text.into())));
        }
        Ok(())
    }
}

/// Most agents whose epoch is cached.
const MAX_CACHED: usize = 65_536;

/// Epochs that earlier transactions read.
///
/// Only the writer changes epochs, so the cache is valid until it opens a session, changes an agent
/// or fails a transaction. Each of these clears it.
#[derive(Default)]
pub(super) struct EpochCache {
    newest: Mutex<HashMap<AgentId, i64>>,
    /// Sessions of which a write has failed: at most one for each agent, until its next session.
    failed: Mutex<HashMap<AgentId, i64>>,
}

impl EpochCache {
    pub(super) fn clear(&self) {
        self.map().clear();
    }

    /// Records a failed write of a session. Its later writes may already be queued and must fail too:
    /// a result must not end a command whose output is incomplete.
    pub(super) fn mark_failed(&self, agent_id: AgentId, epoch: i64) {
        let mut failed = self.failed();
        let last = failed.entry(agent_id).or_insert(epoch);
        *last = epoch.max(*last);
    }

    /// Returns the cached epochs, and removes their agents from `ids`.
    pub(super) fn take_known(&self, ids: &mut Vec<AgentId>) -> HashMap<AgentId, i64> {
        let known = self.map();
        let mut found = HashMap::with_capacity(ids.len());
        ids.retain(|id| known.get(id).is_none_or(|epoch| found.insert(*id, *epoch).is_some()));
        found
    }

    pub(super) fn remember(&self, rows: &[(AgentId, i64)]) {
        let mut known = self.map();
        if known.len() + rows.len() > MAX_CACHED {
            known.clear();
        }
        known.extend(rows.iter().copied());
        let mut failed = self.failed();
        for (agent_id, epoch) in rows {
            if failed.get(agent_id).is_some_and(|failed| failed < epoch) {
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

    fn map(&self) -> MutexGuard<'_, HashMap<AgentId, i64>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self) -> MutexGuard<'_, HashMap<AgentId, i64>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
