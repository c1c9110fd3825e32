//! Calls of scripts with a trigger: counted in the transaction that stores their job, and their new data stored
//! in the one that records their result.

use muster_protocol::frame::Outcome;
use muster_protocol::library::{CallReport, check_call_data};
use sea_orm::sea_query::{Expr, ExprTrait as _, OnConflict};
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, DbErr, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _, QuerySelect as _,
};

use super::entities::commands::command;
use super::entities::schedules::trigger_state::{self, Column};
use crate::domain::commands::command_state::CommandState;
use crate::domain::ids::{AgentId, CommandId, TriggerStateId};
use crate::domain::schedules::trigger_call::{CallOutcome, PinnedCall};
use crate::domain::time::Timestamp;

/// Rows of one statement.
const CHUNK: usize = 64;

/// Counts the calls of a new job. Executions that have ended with their insert are no calls.
pub(super) async fn record_calls(
    transaction: &DatabaseTransaction,
    call: PinnedCall,
    executions: &[command::Model],
) -> Result<(), DbErr> {
    let is_call =
        |row: &&command::Model| row.state != CommandState::Rejected && !row.state.is_terminal();
    let rows: Vec<_> = executions.iter().filter(is_call).map(|row| new_state(call, row)).collect();
    for rows in rows.chunks(CHUNK) {
        let counted = Expr::col((trigger_state::Entity, Column::CallCount)).add(1);
        let on_conflict = OnConflict::columns([Column::ScheduleId, Column::AgentId])
            .value(Column::CallCount, counted)
            .update_columns([Column::LastCallAt, Column::LastCommandId])
            .to_owned();
        trigger_state::Entity::insert_many(rows.iter().cloned().map(|row| row.into_active_model()))
            .on_conflict(on_conflict)
            .exec_without_returning(transaction)
            .await?;
    }
    Ok(())
}

fn new_state(call: PinnedCall, row: &command::Model) -> trigger_state::Model {
    trigger_state::Model {
        id: TriggerStateId::new(),
        tenant_id: row.tenant_id,
        schedule_id: call.schedule_id,
        agent_id: row.agent_id,
        data: "{}".into(),
        data_version: 0,
        data_changed_at: None,
        call_count: 1,
        last_call_at: row.created_at,
        last_command_id: row.id,
        last_outcome: None,
        last_outcome_at: None,
    }
}

/// Stores the new data of a call that has just ended, if the data still has the version that the call got.
/// The caller must make sure that a repeated report does not get here.
pub(super) async fn finish_call(
    transaction: &DatabaseTransaction,
    (agent_id, command_id): (AgentId, CommandId),
    outcome: Outcome,
    report: &CallReport,
    now: Timestamp,
) -> Result<(), DbErr> {
    let data: Option<String> = command::Entity::find_by_id(command_id)
        .select_only()
        .column(command::Column::Data)
        .filter(command::Column::AgentId.eq(agent_id))
        .into_tuple()
        .one(transaction)
        .await?;
    let Some(call) = data.as_deref().and_then(PinnedCall::of_data) else { return Ok(()) };
    let of_state = || {
        trigger_state::Entity::update_many()
            .filter(Column::ScheduleId.eq(call.schedule_id))
            .filter(Column::AgentId.eq(agent_id))
    };
    // What an agent sends may be anything.
    let new_data = report.data.as_deref().map(|data| check_call_data(data.as_bytes()));
    let report = CallReport { data: new_data.and_then(Result::ok), ..report.clone() };
    let mut is_stored = false;
    if let (Outcome::Succeeded, Some(data)) = (outcome, &report.data) {
        let version = i64::try_from(report.data_version).unwrap_or(i64::MAX);
        let stored = of_state()
            .col_expr(Column::Data, Expr::value(data.clone()))
            .col_expr(Column::DataVersion, Expr::col(Column::DataVersion).add(1))
            .col_expr(Column::DataChangedAt, Expr::value(now.0))
            .filter(Column::DataVersion.eq(version))
            .exec(transaction)
            .await?;
        is_stored = stored.rows_affected == 1;
    }
    let outcome = CallOutcome::of(outcome, &report, is_stored);
    of_state()
        .col_expr(Column::LastOutcome, Expr::value(outcome))
        .col_expr(Column::LastOutcomeAt, Expr::value(now.0))
        .exec(transaction)
        .await?;
    Ok(())
}
