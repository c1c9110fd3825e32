//! The progress of rollouts.

pub(in crate::store::queries) mod actions;

use std::collections::HashMap;

use sea_orm::sea_query::{Expr, ExprTrait as _, Func};
use sea_orm::{
    ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

pub use self::actions::{RolloutAction, RolloutActionResult};
use crate::domain::commands::command_state::{CommandState, EndReason};
use crate::domain::commands::job_state::{JobState, Stop};
use crate::domain::commands::records::RolloutRecord;
use crate::domain::ids::{AgentId, CommandId, JobId, PrincipalId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::command_completion::FAILURES;
use crate::store::entities::commands::{command, job, rollout};
use crate::store::entities::fleet::agent;
use crate::store::queries::{SystemScope, TenantScope};

/// A rollout whose job is not finished.
#[derive(Debug, Clone)]
pub struct LiveRollout {
    pub row: rollout::Model,
    pub agent_count: i64,
    pub state: JobState,
    pub stop: Option<Stop>,
}

/// Counts of executions in the current wave and the waves before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WaveCounts {
    pub failures: u64,
    pub held: u64,
    pub in_flight: u64,
    /// At least one execution of the current wave is no longer held.
    pub has_started: bool,
}

/// An execution of a wave, and its agent.
#[derive(Debug, Clone, Copy)]
pub struct WaveAgent {
    pub command_id: CommandId,
    pub agent_id: AgentId,
    pub is_online: bool,
    pub connected_at: Timestamp,
    pub last_seen_at: Timestamp,
}

/// A rollout with its counts, for the API.
#[derive(Debug, Clone)]
pub struct RolloutProgress {
    pub row: RolloutRecord,
    pub counts: RolloutCounts,
}

/// Counts of executions that their state alone does not show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RolloutCounts {
    /// Queued and held.
    pub held: u64,
    /// Skipped, because their agents were offline or their hosts would have refused.
    pub skipped: u64,
}

impl SystemScope {
    /// The rollouts of the given jobs that are not finished.
    pub async fn live_rollouts(&self, ids: &[JobId]) -> Result<Vec<LiveRollout>, StoreError> {
        let rows = rollout::Entity::find()
            .filter(rollout::Column::JobId.is_in(ids.iter().copied()))
            .all(&self.reader)
            .await?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let jobs: Vec<(JobId, i64, JobState, Option<Stop>)> = job::Entity::find()
            .select_only()
            .column(job::Column::Id)
            .column(job::Column::AgentCount)
            .column(job::Column::State)
            .column(job::Column::Stop)
            .filter(job::Column::Id.is_in(rows.iter().map(|row| row.job_id)))
            .filter(job::Column::FinishedAt.is_null())
            .into_tuple()
            .all(&self.reader)
            .await?;
        let mut jobs: HashMap<JobId, _> =
            jobs.into_iter().map(|(id, count, state, stop)| (id, (count, state, stop))).collect();
        let live = |row: rollout::Model| {
            let (agent_count, state, stop) = jobs.remove(&row.job_id)?;
            Some(LiveRollout { row, agent_count, state, stop })
        };
        Ok(rows.into_iter().filter_map(live).collect())
    }

    /// Counts the executions of a rollout up to its wave. Reads open and failed executions, not those
    /// that succeeded.
    pub async fn wave_counts(&self, job_id: JobId, wave: i32) -> Result<WaveCounts, StoreError> {
        let open = || {
            command::Entity::find()
                .filter(command::Column::JobId.eq(job_id))
                .filter(command::Column::Wave.is_not_null())
                .filter(command::Column::FinishedAt.is_null())
        };
        let held = open()
            .filter(command::Column::IsHeld.eq(true))
            .filter(command::Column::State.eq(CommandState::Queued))
            .filter(command::Column::Wave.lte(wave));
        // An execution that an agent has is not held any more, even if a restored backup says so.
        let in_flight = open().filter(
            command::Column::IsHeld.eq(false).or(command::Column::State.ne(CommandState::Queued)),
        );
        let started: Option<CommandId> = command::Entity::find()
            .select_only()
            .column(command::Column::Id)
            .filter(command::Column::JobId.eq(job_id))
            .filter(command::Column::Wave.eq(wave))
            .filter(command::Column::IsHeld.eq(false))
            .limit(1)
            .into_tuple()
            .one(&self.reader)
            .await?;
        // Before the failures: one that fails in between counts twice for now, and never not at all, which
        // would start more than may fail.
        let in_flight = count(&self.reader, in_flight).await?;
        Ok(WaveCounts {
            failures: failures(&self.reader, job_id, wave).await?,
            held: count(&self.reader, held).await?,
            in_flight,
            has_started: started.is_some(),
        })
    }

    /// Held executions of a wave and the waves before it, in order, and the keys that requested them.
    pub async fn held_executions(
        &self,
        job_id: JobId,
        wave: i32,
        limit: u64,
    ) -> Result<Vec<(CommandId, AgentId, PrincipalId)>, StoreError> {
        Ok(command::Entity::find()
            .select_only()
            .column(command::Column::Id)
            .column(command::Column::AgentId)
            .column(command::Column::RequestedBy)
            .filter(command::Column::JobId.eq(job_id))
            .filter(command::Column::Wave.is_not_null())
            .filter(command::Column::FinishedAt.is_null())
            .filter(command::Column::IsHeld.eq(true))
            .filter(command::Column::State.eq(CommandState::Queued))
            .filter(command::Column::Wave.lte(wave))
            .order_by_asc(command::Column::Wave)
            .order_by_asc(command::Column::Id)
            .limit(limit)
            .into_tuple()
            .all(&self.reader)
            .await?)
    }

    /// The agents of a wave, without deleted ones.
    pub async fn wave_agents(
        &self,
        job_id: JobId,
        wave: i32,
    ) -> Result<Vec<WaveAgent>, StoreError> {
        type Row = (CommandId, AgentId, bool, Timestamp, Timestamp);
        let rows: Vec<Row> = command::Entity::find()
            .select_only()
            .column(command::Column::Id)
            .column(command::Column::AgentId)
            .column(agent::Column::IsOnline)
            .column(agent::Column::ConnectedAt)
            .column(agent::Column::LastSeenAt)
            .join(
                sea_orm::JoinType::InnerJoin,
                command::Entity::belongs_to(agent::Entity)
                    .from(command::Column::AgentId)
                    .to(agent::Column::Id)
                    .into(),
            )
            .filter(command::Column::JobId.eq(job_id))
            .filter(command::Column::Wave.eq(wave))
            .filter(agent::Column::DeletedAt.is_null())
            .into_tuple()
            .all(&self.reader)
            .await?;
        let agent = |(command_id, agent_id, is_online, connected_at, last_seen_at)| WaveAgent {
            command_id,
            agent_id,
            is_online,
            connected_at,
            last_seen_at,
        };
        Ok(rows.into_iter().map(agent).collect())
    }

    /// Ends the queued executions of an aborted job, and returns them. An execution can return to the
    /// queue after the abort, if its agent had not accepted it.
    pub async fn end_aborted(
        &self,
        job_id: JobId,
        now: Timestamp,
    ) -> Result<Vec<(CommandId, AgentId)>, StoreError> {
        let queued: Vec<(CommandId, AgentId)> = command::Entity::find()
            .select_only()
            .column(command::Column::Id)
            .column(command::Column::AgentId)
            .filter(command::Column::JobId.eq(job_id))
            .filter(command::Column::State.eq(CommandState::Queued))
            .into_tuple()
            .all(&self.reader)
            .await?;
        let from = &[CommandState::Queued];
        self.end(queued, from, CommandState::Cancelled, EndReason::AbortedInQueue, now).await
    }

    /// When the sessions of the online agents started, by the database. It does not notice agents that
    /// disconnect because the server stops.
    pub async fn online_agents(
        &self,
        ids: &[AgentId],
    ) -> Result<HashMap<AgentId, Timestamp>, StoreError> {
        let mut online = HashMap::with_capacity(ids.len());
        for ids in ids.chunks(500) {
            let some: Vec<(AgentId, Timestamp)> = agent::Entity::find()
                .select_only()
                .column(agent::Column::Id)
                .column(agent::Column::ConnectedAt)
                .filter(agent::Column::Id.is_in(ids.iter().copied()))
                .filter(agent::Column::IsOnline.eq(true))
                .into_tuple()
                .all(&self.reader)
                .await?;
            online.extend(some);
        }
        Ok(online)
    }
}

impl TenantScope {
    /// The rollouts of the given jobs, which must belong to this tenant.
    pub async fn rollouts(
        &self,
        ids: &[JobId],
    ) -> Result<HashMap<JobId, RolloutProgress>, StoreError> {
        let rows = rollout::Entity::find()
            .filter(rollout::Column::TenantId.eq(self.tenant_id))
            .filter(rollout::Column::JobId.is_in(ids.iter().copied()))
            .all(&self.reader)
            .await?;
        let ids: Vec<JobId> = rows.iter().map(|row| row.job_id).collect();
        let mut counts: HashMap<JobId, RolloutCounts> = HashMap::new();
        if !ids.is_empty() {
            let of_jobs = || {
                command::Entity::find()
                    .select_only()
                    .column(command::Column::JobId)
                    .column_as(Expr::col(command::Column::Id).count(), "executions")
                    .filter(command::Column::JobId.is_in(ids.clone()))
                    .group_by(command::Column::JobId)
            };
            let held: Vec<(JobId, i64)> = of_jobs()
                .filter(command::Column::Wave.is_not_null())
                .filter(command::Column::FinishedAt.is_null())
                .filter(command::Column::IsHeld.eq(true))
                .into_tuple()
                .all(&self.reader)
                .await?;
            for (id, count) in held {
                counts.entry(id).or_default().held = count.unsigned_abs();
            }
            let skipped: Vec<(JobId, i64)> = of_jobs()
                .filter(command::Column::State.eq(CommandState::Skipped))
                .into_tuple()
                .all(&self.reader)
                .await?;
            for (id, count) in skipped {
                counts.entry(id).or_default().skipped = count.unsigned_abs();
            }
        }
        let progress = |row: rollout::Model| {
            let counts = counts.get(&row.job_id).copied().unwrap_or_default();
            (row.job_id, RolloutProgress { row: row.into(), counts })
        };
        Ok(rows.into_iter().map(progress).collect())
    }
}

/// Failed executions of a rollout up to a wave. Skipped agents have not failed, nor agents that were
/// deleted before anything was sent to them.
async fn failures<C: sea_orm::ConnectionTrait>(
    connection: &C,
    job_id: JobId,
    wave: i32,
) -> Result<u64, StoreError> {
    // Written this way so that no index by wave is used, which would read succeeded executions too.
    let wave_of = Func::coalesce([Expr::col(command::Column::Wave), Expr::value(0)]);
    let failed = command::Entity::find()
        .filter(command::Column::JobId.eq(job_id))
        .filter(command::Column::State.is_in(FAILURES))
        .filter(Expr::from(wave_of).lte(wave))
        .filter(
            command::Column::State
                .ne(CommandState::Cancelled)
                .or(command::Column::EndReason.is_null())
                .or(command::Column::EndReason.ne(EndReason::AgentDeleted)),
        );
    count(connection, failed).await
}

async fn count<C: sea_orm::ConnectionTrait>(
    connection: &C,
    query: sea_orm::Select<command::Entity>,
) -> Result<u64, StoreError> {
    let rows: Option<i64> = query
        .select_only()
        .column_as(Expr::col(command::Column::Id).count(), "executions")
        .into_tuple()
        .one(connection)
        .await?;
    Ok(rows.unwrap_or(0).unsigned_abs())
}
