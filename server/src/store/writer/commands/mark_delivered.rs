//! Marks queued commands as delivered, before their frames are sent.

use std::collections::{HashMap, HashSet};

use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, DbErr, EntityTrait as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _,
};

use crate::domain::commands::command_state::CommandState;
use crate::domain::ids::{AgentId, CommandId, PrincipalId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::delivery_conditions::{Lock, is_due, locks_held};
use crate::store::entities::commands::command;
use crate::store::requester::{OutgoingWork, has_valid_requester, outside_limits};
use crate::store::writer::connection::WriteTx;
use crate::store::writer::epoch::Epochs;
use crate::store::writer::rows::pad_to_power_of_two;
use crate::store::writer::{BatchOperation, MAX_LIST};

/// Marks queued commands of one agent as delivered.
pub struct MarkDelivered {
    pub agent_id: AgentId,
    pub epoch: i64,
    pub command_ids: Vec<CommandId>,
    pub now: Timestamp,
}

type Selected = (CommandId, PrincipalId, AgentId, String, Option<String>, Option<String>);

fn to_outgoing((id, requested_by, agent_id, command, script, _): Selected) -> OutgoingWork {
    OutgoingWork { id, requested_by, agent_id, command, script }
}

impl BatchOperation for MarkDelivered {
    /// The commands that were still queued and not expired, whose API key is valid and whose limits still
    /// allow them: their frames must be sent now.
    type Done = Vec<CommandId>;

    async fn apply(
        tx: &WriteTx<'_>,
        operations: &[Self],
    ) -> Result<Vec<Result<Vec<CommandId>, StoreError>>, DbErr> {
        let transaction = tx.transaction;
        let epochs = Epochs::read(tx, operations.iter().map(|op| op.agent_id)).await?;
        let wanted: Vec<(CommandId, Timestamp)> = operations
            .iter()
            .filter(|op| epochs.check_open(op.agent_id, op.epoch).is_ok())
            .flat_map(|op| op.command_ids.iter().map(|id| (*id, op.now)))
            .collect();
        let mut delivered = HashSet::with_capacity(wanted.len());
        for wanted in wanted.chunks(MAX_LIST) {
            let now = wanted.iter().map(|(_, now)| *now).max().unwrap_or(Timestamp(0));
            let found: Vec<Selected> = command::Entity::find()
                .select_only()
                .column(command::Column::Id)
                .column(command::Column::RequestedBy)
                .column(command::Column::AgentId)
                .column(command::Column::Command)
                .column(command::Column::Script)
                .column(command::Column::LockName)
                .filter(
                    command::Column::Id
                        .is_in(pad_to_power_of_two(wanted.iter().map(|(id, _)| *id))),
                )
                .filter(command::Column::State.eq(CommandState::Queued))
                .filter(command::Column::ExpiresAt.gt(now))
                .filter(command::Column::CancelRequestedAt.is_null())
                .filter(command::Column::IsHeld.eq(false))
                .filter(is_due(now))
                .filter(has_valid_requester(now))
                // The oldest of those that wait for a lock gets it.
                .order_by_asc(command::Column::Id)
                .into_tuple()
                .all(transaction)
                .await?;
            let mut held = held_locks(transaction, &found).await?;
            let lock_of = |row: &Selected| Some((row.0, (row.2, row.5.clone()?)));
            let locks: HashMap<CommandId, Lock> = found.iter().filter_map(lock_of).collect();
            let found: Vec<_> = found.into_iter().map(to_outgoing).collect();
            let outside = outside_limits(transaction, &found).await?;
            let is_sent = |id: &CommandId| {
                !outside.contains(id) && locks.get(id).is_none_or(|lock| held.insert(lock.clone()))
            };
            let ids: Vec<CommandId> = found.iter().map(|work| work.id).filter(is_sent).collect();
            command::Entity::update_many()
                .col_expr(command::Column::State, CommandState::Delivered.as_str().into())
                .col_expr(command::Column::DeliveredAt, now.0.into())
                .filter(command::Column::Id.is_in(pad_to_power_of_two(ids.iter().copied())))
                .exec(transaction)
                .await?;
            delivered.extend(ids);
        }
        Ok(operations
            .iter()
            .map(|op| {
                epochs.check_open(op.agent_id, op.epoch)?;
                // The frame is sent once, even if another operation of this batch has the same command.
                Ok(op.command_ids.iter().copied().filter(|id| delivered.remove(id)).collect())
            })
            .collect())
    }
}

/// The locks that some of these commands name and that others hold.
async fn held_locks(
    transaction: &DatabaseTransaction,
    found: &[Selected],
) -> Result<HashSet<Lock>, DbErr> {
    let agents: HashSet<AgentId> =
        found.iter().filter(|row| row.5.is_some()).map(|row| row.2).collect();
    match agents.is_empty() {
        true => Ok(HashSet::new()),
        false => locks_held(transaction, agents).await,
    }
}
