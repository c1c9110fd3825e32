//! The fence: a session's writes count only while it is its agent's newest.

use std::collections::HashMap;

use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, DbErr, EntityTrait as _, QueryFilter as _,
    QuerySelect as _,
};

use super::MAX_LIST;
use super::rows::filled;
use crate::domain::ids::AgentId;
use crate::store::StoreError;
use crate::store::entities::agent;

/// The newest epochs of some agents.
pub(super) struct Epochs(HashMap<AgentId, i64>);

impl Epochs {
    /// Reads them in the transaction that rests on them.
    pub(super) async fn read(
        transaction: &DatabaseTransaction,
        agents: impl IntoIterator<Item = AgentId>,
    ) -> Result<Self, DbErr> {
        let mut ids: Vec<_> = agents.into_iter().collect();
        ids.sort_unstable();
        ids.dedup();
        let mut epochs = HashMap::with_capacity(ids.len());
        for ids in ids.chunks(MAX_LIST) {
            let rows: Vec<(AgentId, i64)> = agent::Entity::find()
                .select_only()
                .column(agent::Column::Id)
                .column(agent::Column::Epoch)
                .filter(agent::Column::Id.is_in(filled(ids.iter().copied())))
                .filter(agent::Column::DeletedAt.is_null())
                .into_tuple()
                .all(transaction)
                .await?;
            epochs.extend(rows);
        }
        Ok(Self(epochs))
    }

    /// True unless the agent was deleted.
    pub(super) fn has(&self, agent_id: AgentId) -> bool {
        self.0.contains_key(&agent_id)
    }

    /// True if this epoch is its agent's newest.
    pub(super) fn is_current(&self, agent_id: AgentId, epoch: i64) -> bool {
        self.0.get(&agent_id) == Some(&epoch)
    }

    /// # Errors
    /// [`StoreError::StaleEpoch`] if a newer session exists, or the agent is gone.
    pub(super) fn check(&self, agent_id: AgentId, epoch: i64) -> Result<(), StoreError> {
        if self.is_current(agent_id, epoch) { Ok(()) } else { Err(StoreError::StaleEpoch) }
    }
}
