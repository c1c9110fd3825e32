//! Stores the next attempts of executions that end badly, in the transaction that ends them: a server that
//! is killed has stored both or neither.

use std::collections::HashMap;

use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, DbErr, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _, QuerySelect as _,
};

use crate::domain::commands::command_state::CommandState;
use crate::domain::commands::job_state::JobState;
use crate::domain::commands::retries::StoredRetries;
use crate::domain::ids::{CommandId, JobId};
use crate::domain::schedules::trigger_call::PinnedCall;
use crate::domain::time::Timestamp;
use crate::store::entities::commands::{command, job};
use crate::store::trigger_calls::record_calls;
use crate::store::writer::MAX_LIST;
use crate::store::writer::rows;
use crate::store::writer::rows::pad_to_power_of_two;

/// An execution of a job that is about to end in a state that is retried.
#[derive(Debug, Clone, Copy)]
pub(super) struct EndingExecution {
    pub id: CommandId,
    pub job_id: JobId,
    pub now: Timestamp,
}

/// A job that runs its executions again.
struct RetryingJob {
    retries: StoredRetries,
    /// Its rollout is paused or halted: no execution starts until a person resumes it.
    is_held: bool,
}

/// Stores an attempt after each of these executions that has one left, and takes the execution out of its
/// job, which counts hosts and not attempts. Returns the attempts by the executions that they follow.
///
/// An execution whose cancellation was requested is not run again, nor one that a person signed: a
/// capsule allows one start.
pub(super) async fn start_attempts(
    transaction: &DatabaseTransaction,
    ending: &[EndingExecution],
) -> Result<HashMap<CommandId, CommandId>, DbErr> {
    let mut attempts = HashMap::new();
    for ending in ending.chunks(MAX_LIST) {
        let jobs = retrying_jobs(transaction, ending.iter().map(|ending| ending.job_id)).await?;
        let retried = ending.iter().filter(|ending| jobs.contains_key(&ending.job_id));
        let retried: HashMap<_, _> = retried.map(|ending| (ending.id, ending)).collect();
        if retried.is_empty() {
            continue;
        }
        let rows = command::Entity::find()
            .filter(command::Column::Id.is_in(pad_to_power_of_two(retried.keys().copied())))
            .filter(command::Column::CancelRequestedAt.is_null())
            .filter(command::Column::Capsule.is_null())
            .all(transaction)
            .await?;
        let mut new = Vec::with_capacity(rows.len());
        for row in rows {
            let (id, ending) = (row.id, retried[&row.id]);
            let Some(next) = next_attempt(row, &jobs[&ending.job_id], ending.now) else { continue };
            leave_job(transaction, id, ending.job_id, next.id).await?;
            if let Some(call) = PinnedCall::of_data(&next.data) {
                record_calls(transaction, call, std::slice::from_ref(&next)).await?;
            }
            attempts.insert(id, next.id);
            new.push(next.into_active_model());
        }
        rows::insert(transaction, new, None).await?;
    }
    Ok(attempts)
}

/// Of these jobs, those that run their executions again and that no person stopped.
async fn retrying_jobs(
    transaction: &DatabaseTransaction,
    ids: impl Iterator<Item = JobId>,
) -> Result<HashMap<JobId, RetryingJob>, DbErr> {
    let rows: Vec<(JobId, Option<String>, JobState)> = job::Entity::find()
        .select_only()
        .columns([job::Column::Id, job::Column::Retries, job::Column::State])
        .filter(job::Column::Id.is_in(pad_to_power_of_two(ids)))
        .filter(job::Column::Retries.is_not_null())
        .filter(job::Column::Stop.is_null())
        .filter(job::Column::FinishedAt.is_null())
        .into_tuple()
        .all(transaction)
        .await?;
    let job = |(id, retries, state): (JobId, Option<String>, JobState)| {
        // The server validates retries before it stores them.
        let retries = serde_json::from_str(&retries?).ok()?;
        let is_held = matches!(state, JobState::Paused | JobState::Halted);
        Some((id, RetryingJob { retries, is_held }))
    };
    Ok(rows.into_iter().filter_map(job).collect())
}

/// The attempt after this one; `None` if it was the last.
fn next_attempt(row: command::Model, job: &RetryingJob, now: Timestamp) -> Option<command::Model> {
    let attempt = u32::try_from(row.attempt).unwrap_or(u32::MAX);
    let not_before = now.plus_ms(job.retries.spec().pause_ms(attempt)?);
    Some(command::Model {
        id: CommandId::new(),
        state: CommandState::Queued,
        end_reason: None,
        created_at: now,
        expires_at: match job.is_held {
            true => Timestamp::NEVER,
            false => not_before.plus_ms(job.retries.expires_in_ms),
        },
        delivered_at: None,
        started_at: None,
        finished_at: None,
        is_held: job.is_held,
        attempt: row.attempt + 1,
        retry_of: Some(row.id),
        not_before: Some(not_before),
        step_progress: None,
        ..row
    })
}

async fn leave_job(
    transaction: &DatabaseTransaction,
    id: CommandId,
    job_id: JobId,
    next: CommandId,
) -> Result<(), DbErr> {
    command::Entity::update_many()
        .col_expr(command::Column::JobId, Option::<JobId>::None.into())
        .col_expr(command::Column::RetriedJobId, Some(job_id).into())
        .col_expr(command::Column::RetriedAs, Some(next).into())
        .filter(command::Column::Id.eq(id))
        .exec(transaction)
        .await?;
    Ok(())
}
