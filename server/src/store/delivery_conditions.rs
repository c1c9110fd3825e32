//! When a queued command may be sent: not before its time, and not while another command holds its lock.
//!
//! A command holds its lock from the moment at which it is sent until it has ended.

use std::collections::HashSet;

use sea_orm::sea_query::{Alias, Expr, ExprTrait as _, IntoIden as _, Query, SimpleExpr};
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, DbErr, EntityTrait as _, QueryFilter as _,
    QuerySelect as _,
};

use super::entities::commands::command;
use super::writer::rows::pad_to_power_of_two;
use crate::domain::commands::command_state::CommandState;
use crate::domain::ids::AgentId;
use crate::domain::time::Timestamp;

/// A lock of an agent.
pub(in crate::store) type Lock = (AgentId, String);

/// States in which a command holds its lock.
pub(in crate::store) const HOLDING: [CommandState; 2] =
    [CommandState::Delivered, CommandState::Running];

/// Matches commands that need not wait for the time of their attempt.
pub(in crate::store) fn is_due(now: Timestamp) -> Condition {
    Condition::any()
        .add(command::Column::NotBefore.is_null())
        .add(command::Column::NotBefore.lte(now))
}

/// Matches commands without a lock, and those whose lock is free.
pub(in crate::store) fn has_free_lock() -> SimpleExpr {
    let holder = Alias::new("holder");
    let of = |column: command::Column| Expr::col((holder.clone(), column.into_iden()));
    // `IS NOT NULL` and `IS NULL` are the words of the index `commands_locks`.
    let holders = Query::select()
        .expr(Expr::val(1))
        .from_as(command::Entity, holder.clone())
        .and_where(of(command::Column::LockName).is_not_null())
        .and_where(of(command::Column::FinishedAt).is_null())
        .and_where(of(command::Column::AgentId).equals((command::Entity, command::Column::AgentId)))
        .and_where(
            of(command::Column::LockName).equals((command::Entity, command::Column::LockName)),
        )
        .and_where(of(command::Column::State).is_in(HOLDING))
        .take();
    Expr::col((command::Entity, command::Column::LockName))
        .is_null()
        .or(Expr::exists(holders).not())
}

/// The locks of these agents that commands hold.
pub(in crate::store) async fn locks_held<C: ConnectionTrait>(
    connection: &C,
    agents: impl IntoIterator<Item = AgentId>,
) -> Result<HashSet<Lock>, DbErr> {
    let rows: Vec<Lock> = command::Entity::find()
        .select_only()
        .column(command::Column::AgentId)
        .column(command::Column::LockName)
        .filter(command::Column::AgentId.is_in(pad_to_power_of_two(agents)))
        .filter(command::Column::LockName.is_not_null())
        .filter(command::Column::FinishedAt.is_null())
        .filter(command::Column::State.is_in(HOLDING))
        .into_tuple()
        .all(connection)
        .await?;
    Ok(rows.into_iter().collect())
}
