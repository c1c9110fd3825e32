//! Steps of rollouts. Each is applied once, even if the server stops at any time.

use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, DbErr, EntityTrait as _, QueryFilter as _,
    QuerySelect as _, UpdateMany,
};
use serde_json::json;

use crate::domain::commands::command_state::{CommandState, EndReason};
use crate::domain::commands::job_state::JobState;
use crate::domain::ids::{CommandId, JobId, TenantId};
use crate::domain::integrations::event_type::EventType;
use crate::domain::integrations::integration::IntegrationEvent;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::command_completion::end_of;
use crate::store::entities::access::audit_entry;
use crate::store::entities::commands::{command, job, rollout};
use crate::store::writer::connection::WriteTx;
use crate::store::writer::rows::pad_to_power_of_two;
use crate::store::writer::{BatchOperation, MAX_LIST};

/// Applies one step to a running rollout.
pub struct AdvanceRollout {
    pub tenant_id: TenantId,
    pub job_id: JobId,
    /// The current wave. If the rollout is in another wave, nothing changes.
    pub wave: i32,
    pub change: RolloutChange,
    pub now: Timestamp,
}

/// The step.
pub enum RolloutChange {
    /// These executions may be sent, and wait for their agents until `expires_at`.
    LiftHolds { command_ids: Vec<CommandId>, expires_at: Timestamp },
    /// Every execution of the wave has ended.
    EndWave,
    /// The next wave becomes current, without its offline agents.
    NextWave {
        /// End as `skipped`, with `skipped_offline`.
        skipped: Vec<CommandId>,
        /// Move to the wave of offline agents.
        postponed: Vec<CommandId>,
    },
    /// No execution starts until a person resumes.
    Halt { reason: String, audit: Box<audit_entry::Model> },
}

impl BatchOperation for AdvanceRollout {
    /// False if the rollout is in another wave or was stopped; then nothing changed.
    type Done = bool;

    async fn apply(
        tx: &WriteTx<'_>,
        operations: &[Self],
    ) -> Result<Vec<Result<bool, StoreError>>, DbErr> {
        let mut results = Vec::with_capacity(operations.len());
        for operation in operations {
            results.push(Ok(operation.apply_one(tx).await?));
        }
        Ok(results)
    }
}

impl AdvanceRollout {
    async fn apply_one(&self, tx: &WriteTx<'_>) -> Result<bool, DbErr> {
        let transaction = tx.transaction;
        if !self.is_current(transaction).await? {
            return Ok(false);
        }
        match &self.change {
            RolloutChange::LiftHolds { command_ids, expires_at } => {
                for ids in command_ids.chunks(MAX_LIST) {
                    held(ids, command::Entity::update_many())
                        .col_expr(command::Column::IsHeld, Expr::value(false))
                        .col_expr(command::Column::ExpiresAt, expires_at.0.into())
                        .exec(transaction)
                        .await?;
                }
            }
            RolloutChange::EndWave => {
                let ended = [(rollout::Column::WaveEndedAt, self.now.0.into())];
                self.write(transaction, ended).await?;
            }
            RolloutChange::NextWave { skipped, postponed } => {
                let skipped = self.skip(transaction, skipped).await?;
                tx.metrics.ended(CommandState::Skipped, skipped);
                self.postpone(transaction, postponed).await?;
                let next = [
                    (rollout::Column::Wave, (self.wave + 1).into()),
                    (rollout::Column::WaveEndedAt, Option::<i64>::None.into()),
                ];
                self.write(transaction, next).await?;
            }
            RolloutChange::Halt { reason, audit } => {
                job::Entity::update_many()
                    .col_expr(job::Column::State, JobState::Halted.as_str().into())
                    .filter(job::Column::Id.eq(self.job_id))
                    .exec(transaction)
                    .await?;
                let halted = [(rollout::Column::HaltReason, reason.as_str().into())];
                self.write(transaction, halted).await?;
                hold_queued(transaction, self.job_id).await?;
                tx.audit.append([(**audit).clone()]);
                tx.outbox.append([IntegrationEvent {
                    tenant_id: self.tenant_id,
                    event: EventType::RolloutHalted,
                    at: self.now,
                    subject_id: self.job_id.0,
                    agent_id: None,
                    job_id: Some(self.job_id),
                    data: json!({"reason": reason, "wave": self.wave}),
                }]);
            }
        }
        Ok(true)
    }

    /// The step was decided on an earlier read. A person may have paused or stopped the rollout since
    /// then, or the step may have been applied already.
    async fn is_current(&self, transaction: &DatabaseTransaction) -> Result<bool, DbErr> {
        let wave: Option<i32> = rollout::Entity::find()
            .select_only()
            .column(rollout::Column::Wave)
            .filter(rollout::Column::JobId.eq(self.job_id))
            .filter(rollout::Column::TenantId.eq(self.tenant_id))
            .into_tuple()
            .one(transaction)
            .await?;
        let running: Option<JobId> = job::Entity::find()
            .select_only()
            .column(job::Column::Id)
            .filter(job::Column::Id.eq(self.job_id))
            .filter(job::Column::State.eq(JobState::Running))
            .filter(job::Column::Stop.is_null())
            .into_tuple()
            .one(transaction)
            .await?;
        Ok(wave == Some(self.wave) && running.is_some())
    }

    async fn skip(
        &self,
        transaction: &DatabaseTransaction,
        skipped: &[CommandId],
    ) -> Result<u64, DbErr> {
        let mut ended_count = 0;
        for ids in skipped.chunks(MAX_LIST) {
            let ended = held(ids, end_of(CommandState::Skipped, self.now))
                .col_expr(command::Column::EndReason, EndReason::SkippedOffline.as_str().into())
                .exec(transaction)
                .await?;
            ended_count += ended.rows_affected;
        }
        Ok(ended_count)
    }

    async fn postpone(
        &self,
        transaction: &DatabaseTransaction,
        postponed: &[CommandId],
    ) -> Result<(), DbErr> {
        let rollout = rollout::Entity::find_by_id(self.job_id).one(transaction).await?;
        let offline_wave = rollout.as_ref().and_then(|rollout| rollout.offline_wave);
        let (Some(rollout), Some(last)) = (rollout, offline_wave) else { return Ok(()) };
        for ids in postponed.chunks(MAX_LIST) {
            held(ids, command::Entity::update_many())
                .col_expr(command::Column::Wave, last.into())
                .exec(transaction)
                .await?;
        }
        if !postponed.is_empty() && rollout.wave_count < last {
            self.write(transaction, [(rollout::Column::WaveCount, last.into())]).await?;
        }
        Ok(())
    }

    async fn write<const N: usize>(
        &self,
        transaction: &DatabaseTransaction,
        values: [(rollout::Column, Expr); N],
    ) -> Result<(), DbErr> {
        let update = rollout::Entity::update_many().filter(rollout::Column::JobId.eq(self.job_id));
        let with = |update: UpdateMany<_>, (column, value)| update.col_expr(column, value);
        values.into_iter().fold(update, with).exec(transaction).await?;
        Ok(())
    }
}

/// Limits an update to the given executions that are still held.
fn held(ids: &[CommandId], update: UpdateMany<command::Entity>) -> UpdateMany<command::Entity> {
    update
        .filter(command::Column::Id.is_in(pad_to_power_of_two(ids.iter().copied())))
        .filter(command::Column::State.eq(CommandState::Queued))
        .filter(command::Column::IsHeld.eq(true))
}

/// Holds the queued executions of a job: they are not sent before their holds are lifted, and only then
/// does their time to wait start.
pub(in crate::store) async fn hold_queued(
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
