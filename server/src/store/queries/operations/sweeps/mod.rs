//! Periodic sweeps. Each is bounded, and leaves the rest to the next.

mod plans;
mod retention;

use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait as _, DbBackend, EntityTrait as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _, Statement,
};

pub(in crate::store::queries) use self::retention::delete_commands;
pub use self::retention::{Retention, TenantRetention};
use crate::domain::commands::command_state::{CommandState, EndReason};
use crate::domain::fleet::agent::AgentLevel;
use crate::domain::ids::{AgentId, CommandId, TenantId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::command_completion::end_of;
use crate::store::entities::access::audit_entry;
use crate::store::entities::commands::command;
use crate::store::entities::fleet::agent;
use crate::store::queries::SystemScope;
use crate::store::requester::write_audit;

/// Most rows that one sweep handles.
const SWEEP_ROWS: u64 = 500;
/// Pages of SQLite's write-ahead log, 4 KiB each, above which the writer pauses until the log
/// restarts: 64 MiB.
const LOG_PAGES: i64 = 16_384;
/// How long after `timeout_ms` a silent basic agent's command becomes `lost`.
const BASIC_GRACE_MS: i64 = 60_000;
/// States of commands that were sent to an agent.
const SENT: [CommandState; 2] = [CommandState::Delivered, CommandState::Running];

/// A command that a sweep ended, and its agent.
pub type EndedCommand = (CommandId, AgentId);

/// An agent that the database has as online.
#[derive(Debug, Clone, Copy)]
pub struct OfflineAgent {
    pub id: AgentId,
    pub tenant_id: TenantId,
    pub epoch: i64,
}

impl SystemScope {
    /// Expires queued commands past their deadline, and returns them.
    pub async fn expire_queued(&self, now: Timestamp) -> Result<Vec<EndedCommand>, StoreError> {
        let ended: Vec<EndedCommand> = command::Entity::find()
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

    /// Marks commands as lost whose full agent has been offline for longer than they allow, and
    /// returns them.
    ///
    /// Time while the server was down does not count, because no agent could reconnect.
    pub async fn mark_offline_lost(
        &self,
        now: Timestamp,
        started_at: Timestamp,
    ) -> Result<Vec<EndedCommand>, StoreError> {
        let offline_before =
            Expr::val(now.0).sub(Expr::col((command::Entity, command::Column::LostAfterMs)));
        let ended: Vec<EndedCommand> = open_of(AgentLevel::Full)
            .filter(agent::Column::IsOnline.eq(false))
            .filter(
                Expr::col((agent::Entity, agent::Column::LastSeenAt)).lt(offline_before.clone()),
            )
            .filter(Expr::val(started_at.0).lt(offline_before))
            .into_tuple()
            .all(&self.reader)
            .await?;
        self.end(ended, &SENT, CommandState::Lost, EndReason::AgentAway, now).await
    }

    /// Marks commands as lost that a basic agent has not answered in time, and returns them.
    pub async fn lose_unanswered(&self, now: Timestamp) -> Result<Vec<EndedCommand>, StoreError> {
        let due = Expr::col((command::Entity, command::Column::DeliveredAt))
            .add(Expr::col((command::Entity, command::Column::TimeoutMs)));
        let ended: Vec<EndedCommand> = open_of(AgentLevel::Basic)
            .filter(due.lt(now.0 - BASIC_GRACE_MS))
            .into_tuple()
            .all(&self.reader)
            .await?;
        self.end(ended, &SENT, CommandState::Lost, EndReason::NoResponse, now).await
    }

    /// Rejects queued commands that can no longer be sent, and returns them.
    pub async fn refuse_queued(
        &self,
        refused: Vec<EndedCommand>,
        reason: EndReason,
        now: Timestamp,
    ) -> Result<Vec<EndedCommand>, StoreError> {
        let from = &[CommandState::Queued];
        self.end(refused, from, CommandState::Rejected, reason, now).await
    }

    pub(in crate::store::queries) async fn end(
        &self,
        ended: Vec<EndedCommand>,
        from: &'static [CommandState],
        to: CommandState,
        reason: EndReason,
        now: Timestamp,
    ) -> Result<Vec<EndedCommand>, StoreError> {
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
                        // Skips commands that changed since they were read.
                        .filter(command::Column::State.is_in(from.iter().copied()))
                        .exec(transaction)
                        .await?;
                    Ok(moved.rows_affected)
                })
            })
            .await?;
        self.writer.metrics().ended(to.as_str(), moved);
        Ok(ended)
    }

    /// Agents that the database has as online, but that have been silent since `before`.
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

    /// True if commands wait to be added to the indexes of the history.
    pub async fn has_unindexed(&self) -> Result<bool, StoreError> {
        let one = command::Entity::find()
            .select_only()
            .column(command::Column::Id)
            .filter(Expr::cust("NOT is_indexed"))
            .order_by_asc(command::Column::TenantId)
            .order_by_asc(command::Column::Id)
            .limit(1);
        Ok(one.into_tuple::<CommandId>().one(&self.reader).await?.is_some())
    }

    /// Deletes a slice of data past its retention. True if there may be more.
    pub async fn drop_old(&self, retention: Retention) -> Result<bool, StoreError> {
        let dropped = self
            .writer
            .change(move |transaction| {
                Box::pin(async move { retention::drop_slice(transaction, retention).await })
            })
            .await?;
        // After the commit. If the server crashes in between, a sweep deletes the files.
        self.delete_files(dropped.files).await?;
        Ok(dropped.may_have_more)
    }

    /// Deletes a slice of one tenant's history past the retention of its plan. True if there may be more.
    pub async fn drop_old_of_tenant(&self, retention: TenantRetention) -> Result<bool, StoreError> {
        let dropped = self
            .writer
            .change(move |transaction| {
                Box::pin(
                    async move { retention::drop_slice_of_tenant(transaction, retention).await },
                )
            })
            .await?;
        self.delete_files(dropped.files).await?;
        Ok(dropped.may_have_more)
    }

    /// Stores an entry of an audit log.
    pub async fn record(&self, entry: audit_entry::Model) -> Result<(), StoreError> {
        self.writer
            .change(move |transaction| {
                let entry = entry.clone();
                Box::pin(async move { write_audit(transaction, entry).await })
            })
            .await
    }

    /// Rewrites the database without the space of deleted rows. Blocks every writer, and needs as much free
    /// space as the database has after it.
    pub async fn give_space_back(&self) -> Result<(), StoreError> {
        let Some(connection) = &self.checkpointer else {
            self.reader.execute_unprepared("VACUUM (FULL, ANALYZE)").await?;
            return Ok(());
        };
        connection.execute_unprepared("VACUUM").await?;
        connection.execute_unprepared("PRAGMA wal_checkpoint(TRUNCATE)").await?;
        Ok(())
    }

    /// Moves SQLite's write-ahead log into the database file, on a separate connection.
    ///
    /// Under load the writer appends to the log during the move, so that it never restarts and
    /// grows without limit. Once it is longer than [`LOG_PAGES`], the writer pauses while the rest
    /// is moved.
    pub async fn checkpoint(&self) -> Result<(), StoreError> {
        let Some(connection) = &self.checkpointer else { return Ok(()) };
        let moved = Statement::from_string(DbBackend::Sqlite, "PRAGMA wal_checkpoint(PASSIVE)");
        let log_pages: i64 = match connection.query_one_raw(moved).await? {
            Some(row) => row.try_get("", "log")?,
            None => 0,
        };
        if log_pages > LOG_PAGES {
            // A slow reader makes this give up. The next sweep tries again.
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
