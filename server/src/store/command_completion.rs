//! How a command's row ends, whoever ends it.

use sea_orm::sea_query::Value;
use sea_orm::{EntityTrait as _, UpdateMany};

use super::entities::commands::command;
use crate::domain::commands::command_state::CommandState;
use crate::domain::time::Timestamp;

/// An update of rows into a terminal state; the caller says which rows. Nobody needs the secret
/// parameters of a command that is over: they go with the same statement.
pub(super) fn end_of(state: CommandState, now: Timestamp) -> UpdateMany<command::Entity> {
    command::Entity::update_many()
        .col_expr(command::Column::State, state.as_str().into())
        .col_expr(command::Column::FinishedAt, now.0.into())
        .col_expr(command::Column::SealedParameters, Value::Bytes(None).into())
}

/// States that an execution ends in when it did not succeed.
pub(super) const FAILURES: [CommandState; 6] = [
    CommandState::Failed,
    CommandState::TimedOut,
    CommandState::Cancelled,
    CommandState::Expired,
    CommandState::Rejected,
    CommandState::Lost,
];
