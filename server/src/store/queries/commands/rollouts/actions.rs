//! What people do to a roll-out: pause, resume, abort.

use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, EntityTrait as _, QueryFilter as _, QuerySelect as _,
    UpdateMany,
};

use super::failures;
use crate::domain::commands::command_state::{CommandState, EndReason};
use crate::domain::commands::job_state::{JobState, Stop};
use crate::domain::ids::{CommandId, JobId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::command_completion::end_of;
use crate::store::entities::access::audit_entry;
use crate::store::entities::commands::{command, job, rollout};
use crate::store::hold::hold_queued;
use crate::store::queries::TenantScope;
use crate::store::queries::access::agent_keys::write_audit;

/// What somebody wants of a roll-out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RolloutAction {
    /// Nothing more starts; what has been sent goes on.
    Pause,
    /// It goes on, also if it had stopped by itself.
    Resume,
    /// What has not begun ends; what has been sent goes on.
    Abort,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RolloutActionResult {
    /// It is so now, or was already; these executions have ended.
    Done { ended: Vec<CommandId> },
    /// There is no such job.
    Unknown,
    /// The job has no roll-out.
    NoRollout,
    /// Where the job is, that can't be done.
    Refused { state: JobState, stop: Option<Stop> },
}

impl TenantScope {
    /// Steers a roll-out. Repeatable: what is so already leaves no trace.
    pub async fn steer_rollout(
        &self,
        id: JobId,
        steering: RolloutAction,
        now: Timestamp,
        audit: audit_entry::Model,
    ) -> Result<RolloutActionResult, StoreError> {
        let tenant_id = self.tenant_id;
        let steered = self
            .writer
            .change(move |transaction| {
                let audit = audit.clone();
                Box::pin(async move {
                    let found = job::Entity::find_by_id(id)
                        .filter(job::Column::TenantId.eq(tenant_id))
                        .one(transaction)
                        .await?;
                    let Some(job) = found else { return Ok(RolloutActionResult::Unknown) };
                    let found = rollout::Entity::find_by_id(id).one(transaction).await?;
                    let Some(rollout) = found else { return Ok(RolloutActionResult::NoRollout) };
                    match judge(steering, job.state, job.stop) {
                        Transition::Already => {
                            return Ok(RolloutActionResult::Done { ended: Vec::new() });
                        }
                        Transition::Refused => {
                            return Ok(RolloutActionResult::Refused {
                                state: job.state,
                                stop: job.stop,
                            });
                        }
                        Transition::Fits => {}
                    }
                    let ended = match steering {
                        RolloutAction::Pause => pause(transaction, id).await?,
                        RolloutAction::Resume => resume(transaction, &job, &rollout, now).await?,
                        RolloutAction::Abort => abort(transaction, id, now).await?,
                    };
                    write_audit(transaction, audit).await?;
                    Ok(RolloutActionResult::Done { ended })
                })
            })
            .await?;
        if let RolloutActionResult::Done { ended } = &steered {
            self.writer.meters().ended(CommandState::Cancelled.as_str(), ended.len() as u64);
        }
        Ok(steered)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transition {
    Fits,
    Already,
    Refused,
}

fn judge(steering: RolloutAction, state: JobState, stop: Option<Stop>) -> Transition {
    match (steering, state, stop) {
        (RolloutAction::Abort, _, Some(Stop::Aborted)) => Transition::Already,
        (_, _, Some(_)) => Transition::Refused,
        (RolloutAction::Pause, JobState::Running, None)
        | (RolloutAction::Resume, JobState::Paused | JobState::Halted, None)
        | (RolloutAction::Abort, JobState::Running | JobState::Paused | JobState::Halted, None) => {
            Transition::Fits
        }
        (RolloutAction::Pause, JobState::Paused, None)
        | (RolloutAction::Resume, JobState::Running, None) => Transition::Already,
        _ => Transition::Refused,
    }
}

async fn pause(transaction: &DatabaseTransaction, id: JobId) -> Result<Vec<CommandId>, StoreError> {
    of_job(id)
        .col_expr(job::Column::State, JobState::Paused.as_str().into())
        .exec(transaction)
        .await?;
    hold_queued(transaction, id).await?;
    Ok(Vec::new())
}

/// What is held is let go by the keeper, as the roll-out has it.
async fn resume(
    transaction: &DatabaseTransaction,
    job: &job::Model,
    rollout: &rollout::Model,
    now: Timestamp,
) -> Result<Vec<CommandId>, StoreError> {
    of_job(job.id)
        .col_expr(job::Column::State, JobState::Running.as_str().into())
        .exec(transaction)
        .await?;
    let mut update = rollout::Entity::update_many()
        .col_expr(rollout::Column::ResumedAt, now.0.into())
        .col_expr(rollout::Column::HaltReason, Option::<String>::None.into())
        .filter(rollout::Column::JobId.eq(job.id));
    if job.state == JobState::Halted {
        let failures = failures(transaction, job.id, rollout.wave).await?;
        update = update.col_expr(
            rollout::Column::IgnoredFailures,
            i64::try_from(failures).unwrap_or(i64::MAX).into(),
        );
        if rollout.wave_ended_at.is_some() {
            update = update.col_expr(rollout::Column::GateWaivedWave, rollout.wave.into());
        }
    }
    update.exec(transaction).await?;
    Ok(Vec::new())
}

async fn abort(
    transaction: &DatabaseTransaction,
    id: JobId,
    now: Timestamp,
) -> Result<Vec<CommandId>, StoreError> {
    of_job(id)
        .col_expr(job::Column::State, JobState::Running.as_str().into())
        .col_expr(job::Column::Stop, Stop::Aborted.as_str().into())
        .exec(transaction)
        .await?;
    rollout::Entity::update_many()
        .col_expr(rollout::Column::HaltReason, Option::<String>::None.into())
        .filter(rollout::Column::JobId.eq(id))
        .exec(transaction)
        .await?;
    let queued: Vec<CommandId> = command::Entity::find()
        .select_only()
        .column(command::Column::Id)
        .filter(command::Column::JobId.eq(id))
        .filter(command::Column::State.eq(CommandState::Queued))
        .into_tuple()
        .all(transaction)
        .await?;
    end_of(CommandState::Cancelled, now)
        .col_expr(command::Column::EndReason, EndReason::AbortedInQueue.as_str().into())
        .filter(command::Column::JobId.eq(id))
        .filter(command::Column::State.eq(CommandState::Queued))
        .exec(transaction)
        .await?;
    Ok(queued)
}

fn of_job(id: JobId) -> UpdateMany<job::Entity> {
    job::Entity::update_many()
        .filter(job::Column::Id.eq(id))
        .filter(job::Column::FinishedAt.is_null())
}

#[cfg(test)]
mod tests {
    use super::*;
    use strum::IntoEnumIterator as _;

    #[test]
    fn whatever_is_over_or_ending_can_be_steered_no_more() {
        use RolloutAction::{Abort, Pause, Resume};
        for state in JobState::iter() {
            for steering in [Pause, Resume, Abort] {
                let cancelled = judge(steering, state, Some(Stop::Cancelled));
                assert_eq!(cancelled, Transition::Refused);
            }
            assert_eq!(judge(Abort, state, Some(Stop::Aborted)), Transition::Already);
        }
        for state in [JobState::Succeeded, JobState::Failed] {
            for steering in [Pause, Resume, Abort] {
                assert_eq!(judge(steering, state, None), Transition::Refused);
            }
        }
    }

    #[test]
    fn a_halted_rollout_is_resumed_or_aborted_but_not_paused() {
        let halted = |steering| judge(steering, JobState::Halted, None);
        assert_eq!(halted(RolloutAction::Resume), Transition::Fits);
        assert_eq!(halted(RolloutAction::Abort), Transition::Fits);
        assert_eq!(halted(RolloutAction::Pause), Transition::Refused);
    }
}
