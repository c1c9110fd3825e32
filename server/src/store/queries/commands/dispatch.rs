//! Reads queued commands for the dispatcher.

use std::collections::{BTreeSet, HashSet};

use sea_orm::sea_query::{Expr, ExprTrait as _, Query};
use sea_orm::{
    ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use crate::domain::commands::command_state::CommandState;
use crate::domain::ids::{AgentId, CommandId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::delivery_conditions::{has_free_lock, is_due};
use crate::store::entities::commands::command;
use crate::store::queries::SystemScope;
use crate::store::requester::{OutgoingWork, outside_limits};

impl SystemScope {
    /// Of queued commands, those that the scopes or the limits of their keys do not allow any more.
    pub async fn outside_limits(
        &self,
        commands: &[command::Model],
    ) -> Result<BTreeSet<CommandId>, StoreError> {
        let outgoing = |row: &command::Model| OutgoingWork {
            id: row.id,
            requested_by: row.requested_by,
            agent_id: row.agent_id,
            command: row.command.clone(),
            script: row.script.clone(),
        };
        let commands: Vec<_> = commands.iter().map(outgoing).collect();
        Ok(outside_limits(&self.reader, &commands).await?)
    }

    /// Queued commands of some agents that are due, neither expired, cancelled nor held, and whose locks are
    /// free, oldest first.
    ///
    /// At most `per_agent` of each agent, so that one backlog does not hide the others, and at most
    /// `limit` in all.
    pub async fn deliverable(
        &self,
        agents: &[AgentId],
        now: Timestamp,
        per_agent: u64,
        limit: u64,
    ) -> Result<Vec<command::Model>, StoreError> {
        const RANK: &str = "rank_in_queue";
        const RANKED: &str = "ranked";
        let mut ranked = Query::select()
            .column(command::Column::Id)
            .expr_as(Expr::cust("ROW_NUMBER() OVER (PARTITION BY agent_id ORDER BY id)"), RANK)
            .from(command::Entity)
            .and_where(command::Column::AgentId.is_in(agents.iter().copied()))
            .and_where(command::Column::FinishedAt.is_null())
            .and_where(command::Column::State.eq(CommandState::Queued))
            .and_where(command::Column::ExpiresAt.gt(now))
            .and_where(command::Column::CancelRequestedAt.is_null())
            .and_where(command::Column::IsHeld.eq(false))
            .cond_where(is_due(now))
            .and_where(has_free_lock())
            .take();
        let first = Query::select()
            .column(command::Column::Id)
            .from_subquery(ranked.take(), RANKED)
            .and_where(Expr::col(RANK).lte(per_agent.cast_signed()))
            .take();
        Ok(command::Entity::find()
            .filter(command::Column::Id.in_subquery(first))
            .order_by_asc(command::Column::Id)
            .limit(limit)
            .all(&self.reader)
            .await?)
    }

    /// Of these agents, those with queued commands that name a lock.
    pub async fn agents_with_queued_locks(
        &self,
        agents: &[AgentId],
    ) -> Result<HashSet<AgentId>, StoreError> {
        let ids: Vec<AgentId> = command::Entity::find()
            .select_only()
            .column(command::Column::AgentId)
            .distinct()
            .filter(command::Column::AgentId.is_in(agents.iter().copied()))
            .filter(command::Column::LockName.is_not_null())
            .filter(command::Column::FinishedAt.is_null())
            .filter(command::Column::State.eq(CommandState::Queued))
            .filter(command::Column::IsHeld.eq(false))
            .into_tuple()
            .all(&self.reader)
            .await?;
        Ok(ids.into_iter().collect())
    }
}
