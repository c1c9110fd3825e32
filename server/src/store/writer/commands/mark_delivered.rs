//! From the queue to an agent: committed before the frame leaves.

use std::collections::HashSet;

use sea_orm::{ColumnTrait as _, DbErr, EntityTrait as _, QueryFilter as _, QuerySelect as _};

use crate::domain::commands::command_state::CommandState;
use crate::domain::ids::{AgentId, CommandId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::commands::command;
use crate::store::writer::connection::Work;
use crate::store::writer::epoch::Epochs;
use crate::store::writer::rows::filled;
use crate::store::writer::{MAX_LIST, Merge};

/// Marks queued commands of one agent as delivered.
pub struct MarkDelivered {
    pub agent_id: AgentId,
    pub epoch: i64,
    pub command_ids: Vec<CommandId>,
    pub now: Timestamp,
}

impl Merge for MarkDelivered {
    /// Those that still were queued and in time: their frames may leave.
    type Done = Vec<CommandId>;

    async fn apply(
        work: &Work<'_>,
        operations: &[Self],
    ) -> Result<Vec<Result<Vec<CommandId>, StoreError>>, DbErr> {
        let transaction = work.transaction;
        let epochs = Epochs::read(work, operations.iter().map(|op| op.agent_id)).await?;
        let wanted: Vec<(CommandId, Timestamp)> = operations
            .iter()
            .filter(|op| epochs.may_write(op.agent_id, op.epoch))
            .flat_map(|op| op.command_ids.iter().map(|id| (*id, op.now)))
            .collect();
        let mut delivered = HashSet::with_capacity(wanted.len());
        for wanted in wanted.chunks(MAX_LIST) {
            let now = wanted.iter().map(|(_, now)| *now).max().unwrap_or(Timestamp(0));
            let ids: Vec<CommandId> = command::Entity::find()
                .select_only()
                .column(command::Column::Id)
                .filter(command::Column::Id.is_in(filled(wanted.iter().map(|(id, _)| *id))))
                .filter(command::Column::State.eq(CommandState::Queued))
                .filter(command::Column::ExpiresAt.gt(now))
                .filter(command::Column::CancelRequestedAt.is_null())
                .filter(command::Column::IsHeld.eq(false))
                .into_tuple()
                .all(transaction)
                .await?;
            command::Entity::update_many()
                .col_expr(command::Column::State, CommandState::Delivered.as_str().into())
                .col_expr(command::Column::DeliveredAt, now.0.into())
                .filter(command::Column::Id.is_in(filled(ids.iter().copied())))
                .exec(transaction)
                .await?;
            delivered.extend(ids);
        }
        Ok(operations
            .iter()
            .map(|op| {
                epochs.check(op.agent_id, op.epoch)?;
                // The frame leaves once, whoever else asked for it in this transaction.
                Ok(op.command_ids.iter().copied().filter(|id| delivered.remove(id)).collect())
            })
            .collect())
    }
}
