//! What waits for agents that are connected.

use sea_orm::{
    ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use super::SystemScope;
use crate::domain::ids::AgentId;
use crate::domain::state::CommandState;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::command;

impl SystemScope {
    /// Queued commands of some agents that have not expired, oldest first, at most `limit`.
    pub async fn deliverable(
        &self,
        agents: &[AgentId],
        now: Timestamp,
        limit: u64,
    ) -> Result<Vec<command::Model>, StoreError> {
        Ok(command::Entity::find()
            .filter(command::Column::AgentId.is_in(agents.iter().copied()))
            .filter(command::Column::FinishedAt.is_null())
            .filter(command::Column::State.eq(CommandState::Queued))
            .filter(command::Column::ExpiresAt.gt(now))
            .order_by_asc(command::Column::Id)
            .limit(limit)
            .all(&self.reader)
            .await?)
    }
}
