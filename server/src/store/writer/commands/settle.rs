//! How commands end by their agents' word: once, whatever is repeated.

use std::collections::{HashMap, HashSet};

use muster_protocol::frame::{Outcome, Receipt};
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, DbErr, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _, QuerySelect as _,
};

use super::stored_output::{ChunkPlace, StoredOutput};
use crate::domain::commands::command_state::{CommandState, Event, Step, step};
use crate::domain::ids::{AgentId, CommandId, JobId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::command_completion::end_of;
use crate::store::entities::commands::{command, command_report};
use crate::store::writer::connection::Work;
use crate::store::writer::epoch::Epochs;
use crate::store::writer::rows;
use crate::store::writer::rows::filled;
use crate::store::writer::{MAX_LIST, Merge};

/// What an agent reports of a command.
#[derive(Debug, Clone)]
pub struct Report {
    pub outcome: Outcome,
    /// JSON.
    pub data: String,
    pub error: Option<String>,
    pub error_code: Option<String>,
}

/// Settles a command.
pub struct Settle {
    pub agent_id: AgentId,
    pub epoch: i64,
    pub command_id: CommandId,
    pub report: Report,
    /// Where the last chunk begins that came in this session, if one did. Its agent forgets the
    /// output once the report is recorded: it is not recorded before that chunk is.
    pub last_chunk_bytes: Option<u64>,
    pub now: Timestamp,
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    pub receipt: Receipt,
    /// True if the command was open until now.
    pub was_open: bool,
    /// The job that it is an execution of.
    pub job_id: Option<JobId>,
}

impl Merge for Settle {
    type Done = Settled;

    fn session(&self) -> Option<(AgentId, i64)> {
        Some((self.agent_id, self.epoch))
    }

    async fn apply(
        work: &Work<'_>,
        operations: &[Self],
    ) -> Result<Vec<Result<Settled, StoreError>>, DbErr> {
        let transaction = work.transaction;
        let epochs = Epochs::read(work, operations.iter().map(|op| op.agent_id)).await?;
        let mut known = Known::read(transaction, operations).await?;
        let mut ended: HashMap<CommandState, Vec<&Self>> = HashMap::new();
        let mut reports = Vec::with_capacity(operations.len());
        let mut results = Vec::with_capacity(operations.len());
        for operation in operations {
            if let Err(error) = epochs.check(operation.agent_id, operation.epoch) {
                results.push(Err(error));
                continue;
            }
            if !operation.last_chunk().is_none_or(|chunk| known.output.reaches(chunk)) {
                results.push(Err(StoreError::OutputMissing));
                continue;
            }
            let settled = known.settle(operation);
            match (settled, known.is_new_report(operation, settled)) {
                (Settled { was_open: true, .. }, _) => {
                    ended.entry(operation.report.outcome.into()).or_default().push(operation);
                    reports.push(operation.row(false));
                }
                (Settled { receipt: Receipt::Late, .. }, true) => reports.push(operation.row(true)),
                _ => {}
            }
            results.push(Ok(settled));
        }
        for (state, operations) in ended {
            for operations in operations.chunks(MAX_LIST) {
                write_end(work, state, operations).await?;
            }
        }
        rows::insert(transaction, reports, None).await?;
        Ok(results)
    }
}

impl Settle {
    fn last_chunk(&self) -> Option<ChunkPlace> {
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
        }
        .into_active_model()
    }
}

/// The commands of a batch as they stand, kept up as the batch is decided.
struct Known {
    commands: HashMap<CommandId, (AgentId, CommandState, Option<JobId>)>,
    /// Commands of which a report is stored; true if it is a late one.
    reported: HashMap<CommandId, bool>,
    new_late: HashSet<CommandId>,
    output: StoredOutput,
}

impl Known {
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
                            .is_in(filled(operations.iter().map(|op| op.command_id))),
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
                .filter(command_report::Column::CommandId.is_in(filled(over)))
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
                    match step(*state, Event::Reported(operation.report.outcome)) {
                        Step::To(next) => {
                            *state = next;
                            self.reported.insert(id, false);
                            (Receipt::Recorded, true)
                        }
                        Step::Stay | Step::Late => match self.reported.get(&id) {
                            Some(false) => (Receipt::Recorded, false),
                            Some(true) | None => (Receipt::Late, false),
                        },
                    };
                (receipt, was_open, *job_id)
            }
            // Another agent's command is as unknown as one that never was.
            Some(_) | None => (Receipt::UnknownCommand, false, None),
        };
        Settled { receipt, was_open, job_id }
    }

    /// True once for a late report that is not stored yet.
    fn is_new_report(&mut self, operation: &Settle, settled: Settled) -> bool {
        settled.receipt == Receipt::Late
            && !self.reported.contains_key(&operation.command_id)
            && self.new_late.insert(operation.command_id)
    }
}

async fn write_end(
    work: &Work<'_>,
    state: CommandState,
    operations: &[&Settle],
) -> Result<(), DbErr> {
    let now = operations.iter().map(|op| op.now).max().unwrap_or(Timestamp(0));
    let ended = end_of(state, now)
        .filter(command::Column::Id.is_in(filled(operations.iter().map(|op| op.command_id))))
        .exec(work.transaction)
        .await?;
    work.tally.ended(state, ended.rows_affected);
    Ok(())
}
