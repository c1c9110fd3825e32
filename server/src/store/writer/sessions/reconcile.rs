//! Reconciles an agent's inventory with the stored commands, before any command is delivered.

use std::collections::HashMap;

use muster_protocol::frame::{InventoryState, Receipt};
use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, DbErr, EntityTrait as _, QueryFilter as _,
    QuerySelect as _,
};

use crate::domain::commands::command_state::{
    CommandEvent, CommandState, CommandTransition, EndReason, step,
};
use crate::domain::ids::{AgentId, CommandId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::command_completion::end_of;
use crate::store::entities::commands::{command, command_report, output_blob, output_chunk};
use crate::store::writer::connection::WriteTx;
use crate::store::writer::epoch::Epochs;
use crate::store::writer::rows::pad_to_power_of_two;
use crate::store::writer::{BatchOperation, MAX_LIST};

/// One command of an inventory.
#[derive(Debug, Clone, Copy)]
pub struct Listed {
    pub command_id: CommandId,
    pub state: InventoryState,
}

/// Reconciles one agent's open commands with its complete inventory.
pub struct Reconcile {
    pub agent_id: AgentId,
    pub epoch: i64,
    pub listed: Vec<Listed>,
    pub now: Timestamp,
}

/// How much of a command's output is committed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Committed {
    /// Payload of both streams.
    pub offset_bytes: u64,
    /// Payload of stdout.
    pub stdout_bytes: u64,
}

/// What the agent must do with one listed command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Send output from this offset, and the result.
    SendFrom(Committed),
    /// Send no more of it.
    Done(Receipt),
}

/// The result, after the commit.
#[derive(Debug, Clone, Default)]
pub struct Reconciled {
    pub dispositions: Vec<(CommandId, Disposition)>,
    /// Commands that the agent must cancel.
    pub cancels: Vec<CommandId>,
    /// Open commands that the agent has.
    pub open: Vec<CommandId>,
    /// Commands whose state changed.
    pub changed: Vec<CommandId>,
    /// Commands of whose output only so much of the newest part is kept.
    pub max_log_bytes: HashMap<CommandId, u64>,
}

impl BatchOperation for Reconcile {
    type Done = Reconciled;

    fn session(&self) -> Option<(AgentId, i64)> {
        Some((self.agent_id, self.epoch))
    }

    async fn apply(
        tx: &WriteTx<'_>,
        operations: &[Self],
    ) -> Result<Vec<Result<Reconciled, StoreError>>, DbErr> {
        let transaction = tx.transaction;
        let epochs = Epochs::read(tx, operations.iter().map(|op| op.agent_id)).await?;
        let stored = ReconciliationState::read(transaction, operations).await?;
        let mut changes = StateChanges::default();
        let mut results = Vec::with_capacity(operations.len());
        for operation in operations {
            results.push(
                epochs
                    .check(operation.agent_id, operation.epoch)
                    .map(|()| stored.reconcile(operation, &mut changes)),
            );
        }
        changes.write(tx).await?;
        Ok(results)
    }
}

#[derive(Debug, Clone, Copy)]
struct ReconciledCommand {
    agent_id: AgentId,
    state: CommandState,
    is_cancel_requested: bool,
    max_log_bytes: Option<i64>,
}

/// The stored state of all commands that the inventories of a batch affect.
struct ReconciliationState {
    commands: HashMap<CommandId, ReconciledCommand>,
    open_of: HashMap<AgentId, Vec<CommandId>>,
    offsets: HashMap<CommandId, Committed>,
    reports: HashMap<CommandId, bool>,
}

type CommandRow = (CommandId, AgentId, CommandState, Option<Timestamp>, Option<i64>);

impl ReconciliationState {
    async fn read(
        transaction: &DatabaseTransaction,
        operations: &[Reconcile],
    ) -> Result<Self, DbErr> {
        let mut rows: Vec<CommandRow> = Vec::new();
        let agents: Vec<_> = operations.iter().map(|op| op.agent_id).collect();
        for agents in agents.chunks(MAX_LIST) {
            rows.extend(
                columns()
                    .filter(
                        command::Column::AgentId.is_in(pad_to_power_of_two(agents.iter().copied())),
                    )
                    .filter(command::Column::FinishedAt.is_null())
                    .filter(command::Column::State.ne(CommandState::Queued))
                    .into_tuple::<CommandRow>()
                    .all(transaction)
                    .await?,
            );
        }
        let mut open_of: HashMap<AgentId, Vec<CommandId>> = HashMap::new();
        for (id, agent_id, ..) in &rows {
            open_of.entry(*agent_id).or_default().push(*id);
        }
        let listed: Vec<_> =
            operations.iter().flat_map(|op| op.listed.iter().map(|item| item.command_id)).collect();
        let (mut offsets, mut reports) = (HashMap::new(), HashMap::new());
        for listed in listed.chunks(MAX_LIST) {
            let ids = || listed.iter().copied();
            rows.extend(
                columns()
                    .filter(command::Column::Id.is_in(pad_to_power_of_two(ids())))
                    .into_tuple::<CommandRow>()
                    .all(transaction)
                    .await?,
            );
            // Chunks come after compacted output, so their offsets replace it.
            offsets.extend(read_compacted(transaction, ids()).await?);
            offsets.extend(read_offsets(transaction, ids()).await?);
            let reported: Vec<(CommandId, bool)> = command_report::Entity::find()
                .select_only()
                .column(command_report::Column::CommandId)
                .column(command_report::Column::IsLate)
                .filter(command_report::Column::CommandId.is_in(pad_to_power_of_two(ids())))
                .into_tuple()
                .all(transaction)
                .await?;
            reports.extend(reported);
        }
        let commands = rows
            .into_iter()
            .map(|(id, agent_id, state, cancel, max_log_bytes)| {
                let is_cancel_requested = cancel.is_some();
                (id, ReconciledCommand { agent_id, state, is_cancel_requested, max_log_bytes })
            })
            .collect();
        Ok(Self { commands, open_of, offsets, reports })
    }

    fn reconcile(&self, operation: &Reconcile, changes: &mut StateChanges) -> Reconciled {
        let mut reconciled = Reconciled::default();
        let listed: HashMap<_, _> =
            operation.listed.iter().map(|item| (item.command_id, item.state)).collect();
        for (id, state) in &listed {
            let disposition = self.take_listed(operation, *id, *state, changes, &mut reconciled);
            reconciled.dispositions.push((*id, disposition));
        }
        for id in self.open_of.get(&operation.agent_id).into_iter().flatten() {
            if listed.contains_key(id) {
                continue;
            }
            let row = &self.commands[id];
            let (next, reason) = match step(row.state, CommandEvent::Unlisted) {
                // It never reached the agent, and its cancellation was requested.
                CommandTransition::To(CommandState::Queued) if row.is_cancel_requested => {
                    (CommandState::Cancelled, Some(EndReason::CancelledInQueue))
                }
                CommandTransition::To(next) if next.is_terminal() => {
                    (next, Some(EndReason::MissingFromInventory))
                }
                CommandTransition::To(next) => (next, None),
                CommandTransition::Stay | CommandTransition::Late => continue,
            };
            reconciled.changed.push(*id);
            changes.push(next, reason, *id, operation.now);
        }
        reconciled
    }

    fn take_listed(
        &self,
        operation: &Reconcile,
        id: CommandId,
        listed: InventoryState,
        changes: &mut StateChanges,
        reconciled: &mut Reconciled,
    ) -> Disposition {
        let row = match self.commands.get(&id) {
            Some(row) if row.agent_id == operation.agent_id => row,
            _ => return Disposition::Done(Receipt::UnknownCommand),
        };
        match self.reports.get(&id) {
            Some(false) => return Disposition::Done(Receipt::Recorded),
            Some(true) => return Disposition::Done(Receipt::Late),
            None => {}
        }
        let event = match listed {
            InventoryState::Accepted => CommandEvent::ListedAccepted,
            InventoryState::Running => CommandEvent::Started,
            // Its result follows; until then it counts as delivered.
            InventoryState::Settled => CommandEvent::ListedAccepted,
        };
        if let CommandTransition::To(next) = step(row.state, event) {
            reconciled.changed.push(id);
            changes.push(next, None, id, operation.now);
        }
        if !row.state.is_terminal() {
            reconciled.open.push(id);
        }
        // Also for a command that has ended here: if it still runs, it must end.
        if row.is_cancel_requested {
            reconciled.cancels.push(id);
        }
        let max_log_bytes = row.max_log_bytes.map(i64::cast_unsigned);
        reconciled.max_log_bytes.extend(max_log_bytes.map(|bytes| (id, bytes)));
        Disposition::SendFrom(self.offsets.get(&id).copied().unwrap_or_default())
    }
}

fn columns() -> sea_orm::Select<command::Entity> {
    command::Entity::find()
        .select_only()
        .column(command::Column::Id)
        .column(command::Column::AgentId)
        .column(command::Column::State)
        .column(command::Column::CancelRequestedAt)
        .column(command::Column::MaxLogBytes)
}

async fn read_offsets(
    transaction: &DatabaseTransaction,
    ids: impl Iterator<Item = CommandId>,
) -> Result<Vec<(CommandId, Committed)>, DbErr> {
    let end = |offset, length| Expr::col(offset).add(Expr::col(length)).max();
    use output_chunk::Column::{LengthBytes, OffsetBytes, StdoutBytes, StdoutOffsetBytes};
    let rows: Vec<(CommandId, i64, i64)> = output_chunk::Entity::find()
        .select_only()
        .column(output_chunk::Column::CommandId)
        .column_as(end(OffsetBytes, LengthBytes), "end_bytes")
        .column_as(end(StdoutOffsetBytes, StdoutBytes), "stdout_end_bytes")
        .filter(output_chunk::Column::CommandId.is_in(pad_to_power_of_two(ids)))
        .group_by(output_chunk::Column::CommandId)
        .into_tuple()
        .all(transaction)
        .await?;
    let committed = |end: i64, stdout: i64| Committed {
        offset_bytes: end.cast_unsigned(),
        stdout_bytes: stdout.cast_unsigned(),
    };
    Ok(rows.into_iter().map(|(id, end, stdout)| (id, committed(end, stdout))).collect())
}

async fn read_compacted(
    transaction: &DatabaseTransaction,
    ids: impl Iterator<Item = CommandId>,
) -> Result<Vec<(CommandId, Committed)>, DbErr> {
    let rows: Vec<(CommandId, i64, i64)> = output_blob::Entity::find()
        .select_only()
        .column(output_blob::Column::CommandId)
        .column(output_blob::Column::LengthBytes)
        .column(output_blob::Column::StdoutBytes)
        .filter(output_blob::Column::CommandId.is_in(pad_to_power_of_two(ids)))
        .into_tuple()
        .all(transaction)
        .await?;
    let committed = |length: i64, stdout: i64| Committed {
        offset_bytes: length.cast_unsigned(),
        stdout_bytes: stdout.cast_unsigned(),
    };
    Ok(rows.into_iter().map(|(id, length, stdout)| (id, committed(length, stdout))).collect())
}

/// Changes of state, grouped so that each kind is one statement.
#[derive(Default)]
struct StateChanges(HashMap<(CommandState, Option<EndReason>), (Vec<CommandId>, Timestamp)>);

impl StateChanges {
    fn push(
        &mut self,
        state: CommandState,
        reason: Option<EndReason>,
        id: CommandId,
        now: Timestamp,
    ) {
        let (ids, at) = self.0.entry((state, reason)).or_default();
        ids.push(id);
        *at = std::cmp::max(now, *at);
    }

    async fn write(self, tx: &WriteTx<'_>) -> Result<(), DbErr> {
        for ((state, reason), (ids, now)) in self.0 {
            for ids in ids.chunks(MAX_LIST) {
                let set_state = || {
                    command::Entity::update_many()
                        .col_expr(command::Column::State, state.as_str().into())
                };
                let update = match state {
                    // A rollout releases its executions itself.
                    CommandState::Queued => set_state()
                        .col_expr(command::Column::DeliveredAt, Option::<i64>::None.into())
                        .col_expr(
                            command::Column::IsHeld,
                            Expr::col(command::Column::Wave).is_not_null(),
                        ),
                    // A restored database may hold a command that the agent already has.
                    CommandState::Delivered => set_state()
                        .col_expr(command::Column::DeliveredAt, now.0.into())
                        .col_expr(command::Column::IsHeld, Expr::value(false)),
                    CommandState::Running => set_state()
                        .col_expr(command::Column::StartedAt, now.0.into())
                        .col_expr(command::Column::IsHeld, Expr::value(false)),
                    _ => end_of(state, now)
                        .col_expr(command::Column::EndReason, reason.map(EndReason::as_str).into()),
                };
                let updated = update
                    .filter(command::Column::Id.is_in(pad_to_power_of_two(ids.iter().copied())))
                    .exec(tx.transaction)
                    .await?;
                tx.metrics.ended(state, updated.rows_affected);
            }
        }
        Ok(())
    }
}
