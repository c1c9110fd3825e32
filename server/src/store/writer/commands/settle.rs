//! Records the results that agents report: once, even if a report is repeated.

use std::collections::{HashMap, HashSet};

use muster_protocol::frame::{Outcome, Receipt};
use muster_protocol::library::CallReport;
use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{
    ColumnTrait as _, Condition, DatabaseTransaction, DbErr, EntityTrait as _,
    IntoActiveModel as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use output_chunk::Column::{CommandId as Id, LengthBytes, OffsetBytes};

use super::retry::{EndingExecution, start_attempts};

use crate::domain::commands::command_state::{CommandEvent, CommandState, CommandTransition, step};
use crate::domain::commands::retries::is_retried;
use crate::domain::ids::{AgentId, CommandId, JobId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::command_completion::end_of;
use crate::store::entities::commands::{command, command_report, output_blob, output_chunk};
use crate::store::trigger_calls::finish_call;
use crate::store::writer::connection::WriteTx;
use crate::store::writer::epoch::Epochs;
use crate::store::writer::rows::pad_to_power_of_two;
use crate::store::writer::{BatchOperation, MAX_LIST, rows};

/// The report of an agent about a command.
#[derive(Debug, Clone)]
pub struct Report {
    pub outcome: Outcome,
    /// JSON.
    pub data: String,
    pub error: Option<String>,
    pub error_code: Option<String>,
    /// What the agent signed, JSON.
    pub attestation: Option<String>,
    /// For a call of a script with a trigger.
    pub call: Option<CallReport>,
}

/// Ends a command with its report.
pub struct Settle {
    pub agent_id: AgentId,
    pub epoch: i64,
    pub command_id: CommandId,
    pub report: Report,
    /// Offset of the last chunk of this session. The report is recorded only if that chunk is stored,
    /// because the agent deletes its output after that.
    pub last_chunk_bytes: Option<u64>,
    pub now: Timestamp,
}

/// The result of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    pub receipt: Receipt,
    /// True if this report ended the command.
    pub was_open: bool,
    /// The job that the execution belongs to.
    pub job_id: Option<JobId>,
    /// The execution that runs it again, stored by this report.
    pub next_attempt: Option<CommandId>,
}

impl BatchOperation for Settle {
    type Done = Settled;

    fn session(&self) -> Option<(AgentId, i64)> {
        Some((self.agent_id, self.epoch))
    }

    async fn apply(
        tx: &WriteTx<'_>,
        operations: &[Self],
    ) -> Result<Vec<Result<Settled, StoreError>>, DbErr> {
        let transaction = tx.transaction;
        let epochs = Epochs::read(tx, operations.iter().map(|op| op.agent_id)).await?;
        let mut stored = SettlementState::read(transaction, operations).await?;
        let mut ended: HashMap<CommandState, Vec<&Self>> = HashMap::new();
        let mut reports = Vec::with_capacity(operations.len());
        let mut calls = Vec::new();
        let mut ending = Vec::new();
        let mut results = Vec::with_capacity(operations.len());
        for operation in operations {
            if let Err(error) = epochs.check(operation.agent_id, operation.epoch) {
                results.push(Err(error));
                continue;
            }
            if !operation.last_chunk().is_none_or(|chunk| stored.output.reaches(chunk)) {
                results.push(Err(StoreError::OutputMissing));
                continue;
            }
            let settled = stored.settle(operation);
            match (settled, stored.is_new_report(operation, settled)) {
                (Settled { was_open: true, .. }, _) => {
                    let state = operation.report.outcome.into();
                    ended.entry(state).or_default().push(operation);
                    if let Some(job_id) = settled.job_id.filter(|_| is_retried(state)) {
                        let (id, now) = (operation.command_id, operation.now);
                        ending.push(EndingExecution { id, job_id, now });
                    }
                    calls.extend(operation.report.call.as_ref().map(|call| (operation, call)));
                    reports.push(operation.row(false));
                }
                (Settled { receipt: Receipt::Late, .. }, true) => reports.push(operation.row(true)),
                _ => {}
            }
            results.push(Ok(settled));
        }
        // Before the ends, which delete the secret parameters.
        let attempts = start_attempts(transaction, &ending).await?;
        for (state, operations) in ended {
            for operations in operations.chunks(MAX_LIST) {
                write_end(tx, state, operations).await?;
            }
        }
        for (operation, call) in calls {
            let ids = (operation.agent_id, operation.command_id);
            let outcome = operation.report.outcome;
            finish_call(transaction, ids, outcome, call, operation.now).await?;
        }
        rows::insert(transaction, reports, None).await?;
        for (operation, result) in operations.iter().zip(&mut results) {
            if let Ok(settled) = result
                && settled.was_open
            {
                settled.next_attempt = attempts.get(&operation.command_id).copied();
            }
        }
        Ok(results)
    }
}

impl Settle {
    fn last_chunk(&self) -> Option<ChunkPosition> {
        Some((self.command_id, self.last_chunk_bytes?.cast_signed()))
    }

    fn row(&self, is_late: bool) -> command_report::ActiveModel {
        command_report::Model {
            command_id: self.command_id,
            is_late,
            outcome: self.report.outcome.into(),
            data: self.report.data.clone(),
            error: self.report.error.clone(),
            error_code: self.report.error_code.clone(),
            reported_at: self.now,
            attestation: self.report.attestation.clone(),
        }
        .into_active_model()
    }
}

/// The stored state of the commands of a batch, updated as its reports are applied.
struct SettlementState {
    commands: HashMap<CommandId, (AgentId, CommandState, Option<JobId>)>,
    /// Commands with a stored report; true if it is late.
    reported: HashMap<CommandId, bool>,
    new_late: HashSet<CommandId>,
    output: StoredOutput,
}

impl SettlementState {
    async fn read(transaction: &DatabaseTransaction, operations: &[Settle]) -> Result<Self, DbErr> {
        let mut commands = HashMap::with_capacity(operations.len());
        let mut reported = HashMap::new();
        for operations in operations.chunks(MAX_LIST) {
            let rows: Vec<(CommandId, AgentId, CommandState, Option<JobId>)> =
                command::Entity::find()
                    .select_only()
                    .column(command::Column::Id)
                    .column(command::Column::AgentId)
                    .column(command::Column::State)
                    .column(command::Column::JobId)
                    .filter(
                        command::Column::Id
                            .is_in(pad_to_power_of_two(operations.iter().map(|op| op.command_id))),
                    )
                    .into_tuple()
                    .all(transaction)
                    .await?;
            let over = rows.iter().filter(|row| row.2.is_terminal()).map(|row| row.0);
            let over: Vec<CommandId> = over.collect();
            commands
                .extend(rows.into_iter().map(|(id, agent, state, job)| (id, (agent, state, job))));
            if over.is_empty() {
                continue;
            }
            let rows: Vec<(CommandId, bool)> = command_report::Entity::find()
                .select_only()
                .column(command_report::Column::CommandId)
                .column(command_report::Column::IsLate)
                .filter(command_report::Column::CommandId.is_in(pad_to_power_of_two(over)))
                .into_tuple()
                .all(transaction)
                .await?;
            reported.extend(rows);
        }
        let wanted = operations.iter().filter_map(Settle::last_chunk);
        let output = StoredOutput::read(transaction, wanted.collect()).await?;
        Ok(Self { commands, reported, new_late: HashSet::new(), output })
    }

    fn settle(&mut self, operation: &Settle) -> Settled {
        let id = operation.command_id;
        let (receipt, was_open, job_id) = match self.commands.get_mut(&id) {
            Some((agent_id, state, job_id)) if *agent_id == operation.agent_id => {
                let (receipt, was_open) =
                    match step(*state, CommandEvent::Reported(operation.report.outcome)) {
                        CommandTransition::To(next) => {
                            *state = next;
                            self.reported.insert(id, false);
                            (Receipt::Recorded, true)
                        }
                        CommandTransition::Stay | CommandTransition::Late => {
                            match self.reported.get(&id) {
                                Some(false) => (Receipt::Recorded, false),
                                Some(true) | None => (Receipt::Late, false),
                            }
                        }
                    };
                (receipt, was_open, *job_id)
            }
            // A command of another agent is reported as unknown.
            Some(_) | None => (Receipt::UnknownCommand, false, None),
        };
        Settled { receipt, was_open, job_id, next_attempt: None }
    }

    /// True for a late report that is not stored yet; only once for each command.
    fn is_new_report(&mut self, operation: &Settle, settled: Settled) -> bool {
        settled.receipt == Receipt::Late
            && !self.reported.contains_key(&operation.command_id)
            && self.new_late.insert(operation.command_id)
    }
}

async fn write_end(
    tx: &WriteTx<'_>,
    state: CommandState,
    operations: &[&Settle],
) -> Result<(), DbErr> {
    let now = operations.iter().map(|op| op.now).max().unwrap_or(Timestamp(0));
    let end = end_of(state, now);
    let end = match state {
        // It is all that is known of the steps.
        CommandState::Lost => end,
        // The result has them.
        _ => end.col_expr(command::Column::StepProgress, Expr::value(None::<String>)),
    };
    let ended = end
        .filter(
            command::Column::Id
                .is_in(pad_to_power_of_two(operations.iter().map(|op| op.command_id))),
        )
        .exec(tx.transaction)
        .await?;
    tx.metrics.ended(state, ended.rows_affected);
    Ok(())
}

/// A command and the offset of one of its chunks.
type ChunkPosition = (CommandId, i64);

/// The stored part of some output, as chunks or compacted.
struct StoredOutput {
    /// Chunks that are stored as they were received.
    chunks: HashSet<ChunkPosition>,
    /// For other chunks, the end of the stored output of their commands.
    ends: HashMap<CommandId, i64>,
}

impl StoredOutput {
    async fn read(
        transaction: &DatabaseTransaction,
        wanted: Vec<ChunkPosition>,
    ) -> Result<Self, DbErr> {
        // Most commands have one chunk, for which the id is enough.
        let (first, later): (Vec<_>, Vec<_>) = wanted.iter().partition(|(_, offset)| *offset == 0);
        let mut chunks = HashSet::with_capacity(wanted.len());
        for first in first.chunks(MAX_LIST) {
            let ids = pad_to_power_of_two(first.iter().map(|(id, _)| *id));
            let positions = chunk_positions().filter(OffsetBytes.eq(0)).filter(Id.is_in(ids));
            chunks.extend(positions.into_tuple::<ChunkPosition>().all(transaction).await?);
        }
        for later in later.chunks(MAX_LIST) {
            // As conditions: for a list of pairs SQLite would scan the whole index.
            let pair = |(id, offset): ChunkPosition| Id.eq(id).and(OffsetBytes.eq(offset));
            let pairs = pad_to_power_of_two(later.iter().copied()).into_iter().map(pair);
            let positions = chunk_positions().filter(pairs.fold(Condition::any(), Condition::add));
            chunks.extend(positions.into_tuple::<ChunkPosition>().all(transaction).await?);
        }
        let mut ends = HashMap::new();
        for (id, _) in wanted.iter().filter(|place| !chunks.contains(*place)) {
            // Rare, and one lookup by primary key each.
            if !ends.contains_key(id) {
                ends.insert(*id, end_of_output(transaction, *id).await?);
            }
        }
        Ok(Self { chunks, ends })
    }

    /// True if the chunk is stored, by itself or merged into another one. Output is stored without
    /// gaps, so everything before the end is stored.
    fn reaches(&self, chunk: ChunkPosition) -> bool {
        self.chunks.contains(&chunk) || self.ends.get(&chunk.0).is_some_and(|end| *end > chunk.1)
    }
}

fn chunk_positions() -> sea_orm::Select<output_chunk::Entity> {
    output_chunk::Entity::find().select_only().column(Id).column(OffsetBytes)
}

/// End of the stored output of a command: of its last chunk, or of the compacted output.
async fn end_of_output(transaction: &DatabaseTransaction, id: CommandId) -> Result<i64, DbErr> {
    let last: Option<(i64, i64)> = output_chunk::Entity::find()
        .select_only()
        .columns([OffsetBytes, LengthBytes])
        .filter(Id.eq(id))
        .order_by_desc(OffsetBytes)
        .limit(1)
        .into_tuple()
        .one(transaction)
        .await?;
    if let Some((offset, length)) = last {
        return Ok(offset + length);
    }
    let blob = output_blob::Entity::find_by_id(id).all(transaction).await?.pop();
    Ok(blob.map_or(0, |blob| blob.length_bytes))
}
