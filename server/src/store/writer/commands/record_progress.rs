//! Records the progress that agents report: accepted, started, and how far the steps are.

use std::collections::{BTreeMap, HashMap};

use sea_orm::sea_query::{Expr, ExprTrait as _, OnConflict};
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, DbErr, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _,
};

use crate::domain::commands::command_state::CommandState;
use crate::domain::ids::{AgentId, CommandId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::commands::command;
use crate::store::entities::fleet::agent_ledger;
use crate::store::writer::connection::WriteTx;
use crate::store::writer::epoch::Epochs;
use crate::store::writer::rows;
use crate::store::writer::rows::pad_to_power_of_two;
use crate::store::writer::{BatchOperation, MAX_LIST};

/// A step that an agent reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Its ledger contains a command. `acceptance_count`: commands that the ledger has accepted so
    /// far.
    Accepted { acceptance_count: u64 },
    /// The child was started.
    Started { command_id: CommandId },
    /// It is so far with the steps of a command: JSON.
    Steps { command_id: CommandId, progress: String },
}

/// Records a step.
pub struct RecordProgress {
    pub agent_id: AgentId,
    pub epoch: i64,
    pub progress: Progress,
    pub now: Timestamp,
}

impl BatchOperation for RecordProgress {
    type Done = ();

    fn session(&self) -> Option<(AgentId, i64)> {
        Some((self.agent_id, self.epoch))
    }

    async fn apply(
        tx: &WriteTx<'_>,
        operations: &[Self],
    ) -> Result<Vec<Result<(), StoreError>>, DbErr> {
        let transaction = tx.transaction;
        let epochs = Epochs::read(tx, operations.iter().map(|op| op.agent_id)).await?;
        let mut counts: HashMap<AgentId, u64> = HashMap::new();
        let mut started = Vec::new();
        let mut steps = BTreeMap::new();
        for op in operations.iter().filter(|op| epochs.check(op.agent_id, op.epoch).is_ok()) {
            match &op.progress {
                Progress::Accepted { acceptance_count } => {
                    let count = counts.entry(op.agent_id).or_default();
                    *count = Ord::max(*acceptance_count, *count);
                }
                Progress::Started { command_id } => {
                    started.push((op.agent_id, *command_id, op.now));
                }
                // The last one counts.
                Progress::Steps { command_id, progress } => {
                    steps.insert((op.agent_id, *command_id), progress);
                }
            }
        }
        write_counts(transaction, counts.into_iter().collect()).await?;
        for started in started.chunks(MAX_LIST) {
            mark_running(transaction, started).await?;
        }
        for ((agent_id, command_id), progress) in steps {
            store_steps(transaction, agent_id, command_id, progress).await?;
        }
        Ok(operations.iter().map(|op| epochs.check(op.agent_id, op.epoch)).collect())
    }
}

/// Stores the acceptance counts of ledgers.
pub(in crate::store::writer) async fn write_counts(
    transaction: &DatabaseTransaction,
    counts: Vec<(AgentId, u64)>,
) -> Result<(), DbErr> {
    let rows = counts.into_iter().map(|(agent_id, count)| {
        let acceptance_count = i64::try_from(count).unwrap_or(i64::MAX);
        agent_ledger::Model { agent_id, acceptance_count }.into_active_model()
    });
    let replace = OnConflict::column(agent_ledger::Column::AgentId)
        .update_column(agent_ledger::Column::AcceptanceCount)
        .to_owned();
    rows::insert(transaction, rows.collect(), Some(replace)).await
}

async fn mark_running(
    transaction: &DatabaseTransaction,
    started: &[(AgentId, CommandId, Timestamp)],
) -> Result<(), DbErr> {
    let now = started.iter().map(|(_, _, now)| *now).max().unwrap_or(Timestamp(0));
    command::Entity::update_many()
        .col_expr(command::Column::State, CommandState::Running.as_str().into())
        .col_expr(command::Column::StartedAt, now.0.into())
        .col_expr(command::Column::IsHeld, Expr::value(false))
        .filter(
            command::Column::Id.is_in(pad_to_power_of_two(started.iter().map(|(_, id, _)| *id))),
        )
        // An agent cannot change a command of another agent by sending its id, even if that
        // agent reports a start in the same transaction.
        .filter(
            Expr::tuple([Expr::col(command::Column::Id), Expr::col(command::Column::AgentId)])
                .in_tuples(pad_to_power_of_two(started.iter().map(|(agent, id, _)| (*id, *agent)))),
        )
        .filter(command::Column::State.is_in([CommandState::Queued, CommandState::Delivered]))
        .exec(transaction)
        .await?;
    Ok(())
}

/// Stores how far the steps of a command are, if it is one of this agent and has not ended.
async fn store_steps(
    transaction: &DatabaseTransaction,
    agent_id: AgentId,
    command_id: CommandId,
    progress: &str,
) -> Result<(), DbErr> {
    command::Entity::update_many()
        .col_expr(command::Column::StepProgress, progress.into())
        .filter(command::Column::Id.eq(command_id))
        .filter(command::Column::AgentId.eq(agent_id))
        .filter(command::Column::FinishedAt.is_null())
        .exec(transaction)
        .await?;
    Ok(())
}
