//! Actions of people on a rollout: pause, resume, abort.

use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, EntityTrait as _, QueryFilter as _, QuerySelect as _,
    UpdateMany,
};

use super::failures;
use crate::domain::commands::command_state::{CommandState, EndReason};
use crate::domain::commands::job_state::{JobState, Stop};
use crate::domain::ids::{CommandId, JobId, PrincipalId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::command_completion::end_of;
use crate::store::entities::access::audit_entry;
use crate::store::entities::commands::{command, job, rollout};
use crate::store::queries::TenantScope;
use crate::store::requester::write_audit;
use crate::store::writer::hold_queued;

/// An action on a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RolloutAction {
    /// No execution starts; running ones continue.
    Pause,
    /// Continue after a pause or a halt.
    Resume,
    /// Queued executions end; running ones continue.
    Abort,
}

/// The result of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RolloutActionResult {
    /// The rollout is in the requested state, now or already before. These executions have ended.
    Done { ended: Vec<CommandId> },
    /// There is no such job.
    Unknown,
    /// The job has no rollout.
    NoRollout,
    /// The state of the job does not allow the action.
    Refused { state: JobState, stop: Option<Stop> },
}

impl TenantScope {
    /// Applies an action. Repeatable: an action without effect is not audited. After a resume,
    /// `principal_id` is the requester of the executions that are still queued: they are sent while
    /// that key is valid.
    pub async fn apply_rollout_action(
        &self,
        id: JobId,
        action: RolloutAction,
        principal_id: PrincipalId,
        now: Timestamp,
        audit: audit_entry::Model,
    ) -> Result<RolloutActionResult, StoreError> {
        let tenant_id = self.tenant_id;
        let result = self
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
                    match check_action(action, job.state, job.stop) {
                        ActionCheck::AlreadyDone => {
                            return Ok(RolloutActionResult::Done { ended: Vec::new() });
                        }
                        ActionCheck::Refused => {
                            return Ok(RolloutActionResult::Refused {
                                state: job.state,
                                stop: job.stop,
                            });
                        }
                        ActionCheck::Allowed => {}
                    }
                    let ended = match action {
                        RolloutAction::Pause => pause(transaction, id).await?,
                        RolloutAction::Resume => {
                            take_over(transaction, id, principal_id).await?;
                            resume(transaction, &job, &rollout, now).await?
                        }
                        RolloutAction::Abort => abort(transaction, id, now).await?,
                    };
                    write_audit(transaction, audit).await?;
                    Ok(RolloutActionResult::Done { ended })
                })
            })
            .await?;
        if let RolloutActionResult::Done { ended } = &result {
            self.writer.metrics().ended(CommandState::Cancelled.as_str(), ended.len() as u64);
        }
        Ok(result)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ActionCheck {
    Allowed,
    AlreadyDone,
    Refused,
}

fn check_action(action: RolloutAction, state: JobState, stop: Option<Stop>) -> ActionCheck {
    match (action, state, stop) {
        (RolloutAction::Abort, _, Some(Stop::Aborted)) => ActionCheck::AlreadyDone,
        (_, _, Some(_)) => ActionCheck::Refused,
        (RolloutAction::Pause, JobState::Running, None)
        | (RolloutAction::Resume, JobState::Paused | JobState::Halted, None)
        | (
            RolloutAction::Abort,
            JobState::Running | JobState::AwaitingApproval | JobState::Paused | JobState::Halted,
            None,
        ) => ActionCheck::Allowed,
        (RolloutAction::Pause, JobState::Paused, None)
        | (RolloutAction::Resume, JobState::Running, None) => ActionCheck::AlreadyDone,
        _ => ActionCheck::Refused,
    }
}

/// Makes a key the requester of a job's queued executions.
async fn take_over(
    transaction: &DatabaseTransaction,
    id: JobId,
    principal_id: PrincipalId,
) -> Result<(), StoreError> {
    command::Entity::update_many()
        .col_expr(command::Column::RequestedBy, Expr::value(principal_id))
        .filter(command::Column::JobId.eq(id))
        .filter(command::Column::State.eq(CommandState::Queued))
        .exec(transaction)
        .await?;
    Ok(())
}

pub(in crate::store::queries) async fn pause(
    transaction: &DatabaseTransaction,
    id: JobId,
) -> Result<Vec<CommandId>, StoreError> {
    of_job(id)
        .col_expr(job::Column::State, JobState::Paused.as_str().into())
        .exec(transaction)
        .await?;
    hold_queued(transaction, id).await?;
    Ok(Vec::new())
}

/// The job reconciler lifts the holds, wave by wave.
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
    fn a_job_that_is_over_or_ending_refuses_every_action() {
        use RolloutAction::{Abort, Pause, Resume};
        for state in JobState::iter() {
            for action in [Pause, Resume, Abort] {
                let cancelled = check_action(action, state, Some(Stop::Cancelled));
                assert_eq!(cancelled, ActionCheck::Refused);
            }
            assert_eq!(check_action(Abort, state, Some(Stop::Aborted)), ActionCheck::AlreadyDone);
        }
        for state in [JobState::Succeeded, JobState::Failed] {
            for action in [Pause, Resume, Abort] {
                assert_eq!(check_action(action, state, None), ActionCheck::Refused);
            }
        }
    }

    #[test]
    fn a_halted_rollout_is_resumed_or_aborted_but_not_paused() {
        let halted = |action| check_action(action, JobState::Halted, None);
        assert_eq!(halted(RolloutAction::Resume), ActionCheck::Allowed);
        assert_eq!(halted(RolloutAction::Abort), ActionCheck::Allowed);
        assert_eq!(halted(RolloutAction::Pause), ActionCheck::Refused);
    }
}
