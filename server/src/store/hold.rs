//! How executions of a roll-out are held back, whoever holds them.

use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait as _, DatabaseTransaction, DbErr, EntityTrait as _, QueryFilter as _};

use super::entities::commands::command;
use crate::domain::commands::command_state::CommandState;
use crate::domain::ids::JobId;
use crate::domain::time::Timestamp;

/// Holds whatever of a job is queued: it is not sent before it is let go, and its time to wait
/// begins then.
pub(super) async fn hold_queued(
    transaction: &DatabaseTransaction,
    job_id: JobId,
) -> Result<(), DbErr> {
    command::Entity::update_many()
        .col_expr(command::Column::IsHeld, Expr::value(true))
        .col_expr(command::Column::ExpiresAt, Timestamp::NEVER.0.into())
        .filter(command::Column::JobId.eq(job_id))
        .filter(command::Column::State.eq(CommandState::Queued))
        .exec(transaction)
        .await?;
    Ok(())
}
