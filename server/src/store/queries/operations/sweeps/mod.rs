//! What only time brings about. Every sweep is bounded; what it leaves, the next one takes.

mod retention;

use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait as _, DbBackend, EntityTrait as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _, Statement,
};

pub use self::retention::Retention;
pub(in crate::store::queries) use self::retention::first_id_at;
use crate::domain::commands::command_state::{CommandState, EndReason};
use crate::domain::fleet::agent::AgentLevel;
use crate::domain::ids::{AgentId, CommandId, TenantId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::command_completion::end_of;
use crate::store::entities::commands::command;
use crate::store::entities::fleet::agent;
use crate::store::queries::SystemScope;

/// Rows that one sweep takes at the most.
const SWEEP_ROWS: u64 = 500;
/// Pages of SQLite's log, 4 KiB each, above which the writer waits for it to start anew: 64 MiB.
const LOG_PAGES: i64 = 16_384;
/// How long a basic agent may take beyond `timeout_ms` before its silence means `lost`.
const BASIC_GRACE_MS: i64 = 60_000;
/// States of commands that an agent was sent.
const SENT: [CommandState; 2] = [CommandState::Delivered, CommandState::Running];

/// A command that time ended, and its agent.
pub type Ended = (CommandId, AgentId);

/// An agent that the database calls online.
#[derive(Debug, Clone, Copy)]
pub struct OfflineAgent {
    pub id: AgentId,
    pub tenant_id: TenantId,
    pub epoch: i64,
}

impl SystemScope {
    /// Ends queued commands past their deadline; which.
    pub async fn expire_queued(&self, now: Timestamp) -> Result<Vec<Ended>, StoreError> {
        let ended: Vec<Ended> = command::Entity::find()
            .select_only()
            .column(command::Column::Id)
            .column(command::Column::AgentId)
            .filter(command::Column::State.eq(CommandState::Queued))
            .filter(command::Column::ExpiresAt.lte(now))
            .filter(command::Column::IsHeld.eq(false))
            .limit(SWEEP_ROWS)
            .into_tuple()
            .all(&self.reader)
            .await?;
        let from = &[CommandState::Queued];
        self.end(ended, from, CommandState::Expired, EndReason::ExpiredInQueue, now).await
    }

    /// Ends commands whose full agent has been away for longer than they allow; which.
    ///
    /// The server's own absence does not count: nobody could come back while it was down.
    pub async fn lose_away(
        &self,
        now: Timestamp,
        started_at: Timestamp,
    ) -> Result<Vec<Ended>, StoreError> {
        let away_before =
            Expr::val(now.0).sub(Expr::col((command::Entity, command::Column::LostAfterMs)));
        let ended: Vec<Ended> = open_of(AgentLevel::Full)
            .filter(agent::Column::IsOnline.eq(false))
            .filter(Expr::col((agent::Entity, agent::Column::LastSeenAt)).lt(away_before.clone()))
            .filter(Expr::val(started_at.0).lt(away_before))
            .into_tuple()
            .all(&self.reader)
            .await?;
        self.end(ended, &SENT, CommandState::Lost, EndReason::AgentAway, now).await
    }

    /// Ends commands that a basic agent has not answered in time; which.
    pub async fn lose_unanswered(&self, now: Timestamp) -> Result<Vec<Ended>, StoreError> {
        let due = Expr::col((command::Entity, command::Column::DeliveredAt))
            .add(Expr::col((command::Entity, command::Column::TimeoutMs)));
        let ended: Vec<Ended> = open_of(AgentLevel::Basic)
            .filter(due.lt(now.0 - BASIC_GRACE_MS))
            .into_tuple()
            .all(&self.reader)
            .await?;
        self.end(ended, &SENT, CommandState::Lost, EndReason::NoResponse, now).await
    }

    /// Refuses queued commands that can no longer be sent; which.
    pub async fn refuse_queued(
        &self,
        refused: Vec<Ended>,
        reason: EndReason,
        now: Timestamp,
    ) -> Result<Vec<Ended>, StoreError> {
        let from = &[CommandState::Queued];
        self.end(refused, from, CommandState::Rejected, reason, now).await
    }

    pub(in crate::store::queries) async fn end(
        &self,
        ended: Vec<Ended>,
        from: &'static [CommandState],
        to: CommandState,
        reason: EndReason,
        now: Timestamp,
    ) -> Result<Vec<Ended>, StoreError> {
        if ended.is_empty() {
            return Ok(ended);
        }
        let ids: Vec<CommandId> = ended.iter().map(|(id, _)| *id).collect();
        let moved = self
            .writer
            .change(move |transaction| {
                let ids = ids.clone();
                Box::pin(async move {
                    let moved = end_of(to, now)
                        .col_expr(command::Column::EndReason, reason.as_str().into())
                        .filter(command::Column::Id.is_in(ids))
                        // Whatever has moved since it was read is left alone.
                        .filter(command::Column::State.is_in(from.iter().copied()))
                        .exec(transaction)
                        .await?;
                    Ok(moved.rows_affected)
                })
            })
            .await?;
        self.writer.meters().ended(to.as_str(), moved);
        Ok(ended)
    }

    /// Agents that the database calls online, though they have not been heard of since `before`.
    pub async fn silent_agents(&self, before: Timestamp) -> Result<Vec<OfflineAgent>, StoreError> {
        let rows: Vec<(AgentId, TenantId, i64)> = agent::Entity::find()
            .select_only()
            .column(agent::Column::Id)
            .column(agent::Column::TenantId)
            .column(agent::Column::Epoch)
            .filter(agent::Column::IsOnline.eq(true))
            .filter(agent::Column::LastSeenAt.lt(before))
            .limit(SWEEP_ROWS)
            .into_tuple()
            .all(&self.reader)
            .await?;
        let agent = |(id, tenant_id, epoch)| OfflineAgent { id, tenant_id, epoch };
        Ok(rows.into_iter().map(agent).collect())
    }

    /// True if commands wait to be filed into the indexes of the history.
    pub async fn has_unfiled(&self) -> Result<bool, StoreError> {
        let one = command::Entity::find()
            .select_only()
            .column(command::Column::Id)
            .filter(Expr::cust("NOT is_indexed"))
            .order_by_asc(command::Column::TenantId)
            .order_by_asc(command::Column::Id)
            .limit(1);
        Ok(one.into_tuple::<CommandId>().one(&self.reader).await?.is_some())
    }

    /// Drops a slice of what is older than it is kept. True if there may be more.
    pub async fn drop_old(&self, retention: Retention) -> Result<bool, StoreError> {
        let dropped = self
            .writer
            .change(move |transaction| {
                Box::pin(async move { retention::drop_slice(transaction, retention).await })
            })
            .await?;
        // Behind the commit: what a crash leaves in between is swept.
        self.delete_files(dropped.files).await?;
        Ok(dropped.may_have_more)
    }

    /// Moves SQLite's log into the database file, on a connection of its own.
    ///
    /// Under load the writer adds to the log while it is moved, so that it never starts anew and
    /// would grow for ever. Once it is longer than [`LOG_PAGES`], the writer is held off for the
    /// moment that the rest takes.
    pub async fn checkpoint(&self) -> Result<(), StoreError> {
        let Some(connection) = &self.checkpointer else { return Ok(()) };
        let moved = Statement::from_string(DbBackend::Sqlite, "PRAGMA wal_checkpoint(PASSIVE)");
        let log_pages: i64 = match connection.query_one_raw(moved).await? {
            Some(row) => row.try_get("", "log")?,
            None => 0,
        };
        if log_pages > LOG_PAGES {
            // A reader that takes its time makes this give up; the next turn tries again.
            connection.execute_unprepared("PRAGMA wal_checkpoint(RESTART)").await?;
        }
        Ok(())
    }
}

/// Ids of open, sent commands of agents of one level.
fn open_of(level: AgentLevel) -> sea_orm::Select<command::Entity> {
    command::Entity::find()
        .select_only()
        .column(command::Column::Id)
        .column(command::Column::AgentId)
        .join(
            sea_orm::JoinType::InnerJoin,
            command::Entity::belongs_to(agent::Entity)
                .from(command::Column::AgentId)
                .to(agent::Column::Id)
                .into(),
        )
        .filter(command::Column::FinishedAt.is_null())
        .filter(command::Column::State.is_in(SENT))
        .filter(agent::Column::Level.eq(level))
        .limit(SWEEP_ROWS)
}
