//! Epoch checks: a session may write only while it is the newest one of its agent, and only until
//! one of its writes has failed. Commands are sent only to a session that has not ended.

use std::collections::HashMap;

use sea_orm::{ColumnTrait as _, DbErr, EntityTrait as _, QueryFilter as _, QuerySelect as _};

use super::MAX_LIST;
use super::connection::WriteTx;
use super::epoch_cache::NewestSession;
use super::rows::pad_to_power_of_two;
use crate::domain::ids::AgentId;
use crate::store::StoreError;
use crate::store::entities::fleet::agent;

/// The newest sessions of some agents.
pub(super) struct Epochs {
    newest: HashMap<AgentId, NewestSession>,
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
            let rows: Vec<(AgentId, i64, bool)> = agent::Entity::find()
                .select_only()
                .column(agent::Column::Id)
                .column(agent::Column::Epoch)
                .column(agent::Column::IsOnline)
                .filter(agent::Column::Id.is_in(pad_to_power_of_two(ids.iter().copied())))
                .filter(agent::Column::DeletedAt.is_null())
                .into_tuple()
                .all(tx.transaction)
                .await?;
            let rows: Vec<_> = rows
                .into_iter()
                .map(|(id, epoch, is_open)| (id, NewestSession { epoch, is_open }))
                .collect();
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
        self.newest.get(&agent_id).is_some_and(|newest| newest.epoch == epoch)
    }

    /// True if this session may write: its epoch is the newest, and none of its writes has failed.
    pub(super) fn may_write(&self, agent_id: AgentId, epoch: i64) -> bool {
        self.check(agent_id, epoch).is_ok()
    }

    /// # Errors
    /// As [`Self::check`], and [`StoreError::StaleEpoch`] if the session has ended: what is sent to it would
    /// be lost.
    pub(super) fn check_open(&self, agent_id: AgentId, epoch: i64) -> Result<(), StoreError> {
        match self.newest.get(&agent_id) {
            Some(newest) if newest.is_open => self.check(agent_id, epoch),
            _ => Err(StoreError::StaleEpoch),
        }
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
