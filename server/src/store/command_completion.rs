//! The update that ends commands, for every cause of their end.

use sea_orm::sea_query::Value;
use sea_orm::{EntityTrait as _, UpdateMany};

use super::entities::commands::command;
use crate::domain::commands::command_state::CommandState;
use crate::domain::time::Timestamp;

/// Updates rows to a terminal state; the caller adds the filter. The secret parameters are deleted
/// in the same statement, because an ended command does not need them.
pub(super) fn end_of(state: CommandState, now: Timestamp) -> UpdateMany<command::Entity> {
    command::Entity::update_many()
        .col_expr(command::Column::State, state.as_str().into())
        .col_expr(command::Column::FinishedAt, now.0.into())
        .col_expr(command::Column::SealedParameters, Value::Bytes(None).into())
}

/// Terminal states of executions that did not succeed.
pub(super) const FAILURES: [CommandState; 6] = [
    CommandState::Failed,
    CommandState::TimedOut,
    CommandState::Cancelled,
    CommandState::Expired,
    CommandState::Rejected,
    CommandState::Lost,
];
