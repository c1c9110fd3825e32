//! Stores new jobs, each with its executions, audit entry and idempotency record.

use std::collections::BTreeSet;

use sea_orm::{DbErr, EntityTrait as _, IntoActiveModel as _};

use super::submit_command;
use super::submit_command::{Idempotency, RecordKey};
use crate::domain::commands::command_state::CommandState;
use crate::domain::ids::{CommandId, JobId};
use crate::domain::schedules::trigger_call::PinnedCall;
use crate::store::StoreError;
use crate::store::entities::access::audit_entry;
use crate::store::entities::commands::{approval, command, idempotency_record, job, rollout};
use crate::store::fire_start::{FireStart, Started};
use crate::store::requester::{invalid_requesters, limited_keys};
use crate::store::trigger_calls::record_calls;
use crate::store::writer::epoch::Epochs;
use crate::store::writer::{BatchOperation, WriteTx, rows};

/// One execution of a new job.
pub struct NewExecution {
    pub row: command::Model,
    /// As for a single command: the insert is `delivered` in this epoch.
    pub deliver_in_epoch: Option<i64>,
}

/// Stores a job with at most 10,000 executions.
pub struct SubmitJob {
    pub row: job::Model,
    pub rollout: Option<rollout::Model>,
    pub executions: Vec<NewExecution>,
    pub idempotency: Option<Idempotency>,
    /// The fire of a schedule that gets this job.
    pub fire: Option<FireStart>,
    pub audit: audit_entry::Model,
    /// The request for approval that a held job waits for.
    pub approval: Option<approval::Model>,
}

/// The result of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubmittedJob {
    /// It is stored. The frames of `delivered`, sorted by id, must be sent now; the others are
    /// queued. `gone`: executions that were not stored because their agents were just deleted.
    New { delivered: Vec<CommandId>, gone: usize },
    /// The same request created this job before; no new one is stored.
    Repeated { job_id: JobId },
    /// The idempotency key belongs to another request; no job is stored.
    KeyReused,
    /// The API key was revoked after the request was authenticated; no job is stored.
    KeyInvalid,
    /// The fire has a job already, or gets none; no job is stored.
    FireNotOpen,
    /// The previous job of the fire's schedule has not finished; no job is stored.
    FireOverlaps,
}

impl BatchOperation for SubmitJob {
    type Done = SubmittedJob;

    async fn apply(
        tx: &WriteTx<'_>,
        operations: &[Self],
    ) -> Result<Vec<Result<SubmittedJob, StoreError>>, DbErr> {
        let mut results = Vec::with_capacity(operations.len());
        // One by one: each is large, and may repeat the request of the one before.
        for operation in operations {
            results.push(Ok(operation.store(tx).await?));
        }
        Ok(results)
    }
}

impl SubmitJob {
    async fn store(&self, tx: &WriteTx<'_>) -> Result<SubmittedJob, DbErr> {
        let transaction = tx.transaction;
        let requester = BTreeSet::from([self.row.requested_by]);
        let invalid = invalid_requesters(transaction, requester.clone(), self.row.created_at);
        if !invalid.await?.is_empty() {
            return Ok(SubmittedJob::KeyInvalid);
        }
        // As for a single command.
        let is_limited = !limited_keys(transaction, requester).await?.is_empty();
        if let Some(key) = self.record_key() {
            let known = submit_command::read_records(transaction, vec![key.clone()]).await?;
            if let Some((hash, id)) = known.get(&key) {
                return Ok(match self.is_same_request(hash) {
                    true => SubmittedJob::Repeated { job_id: JobId(id.0) },
                    false => SubmittedJob::KeyReused,
                });
            }
        }
        if let Some(fire) = &self.fire {
            match fire.start(transaction, self.row.id, self.row.created_at).await? {
                Started::Yes => {}
                Started::NotOpen => return Ok(SubmittedJob::FireNotOpen),
                Started::Overlap => return Ok(SubmittedJob::FireOverlaps),
            }
        }
        let agents = self.executions.iter().map(|execution| execution.row.agent_id);
        let epochs = Epochs::read(tx, agents).await?;
        let mut new = Vec::with_capacity(self.executions.len());
        let call = self.fire.and_then(|_| PinnedCall::of_data(&self.row.data));
        let mut calls = Vec::new();
        let mut delivered = Vec::new();
        for execution in &self.executions {
            let agent_id = execution.row.agent_id;
            if !epochs.has(agent_id) {
                continue;
            }
            let mut row = execution.row.clone();
            let epoch = execution.deliver_in_epoch.filter(|_| !is_limited);
            if epoch.is_some_and(|epoch| epochs.check_open(agent_id, epoch).is_ok()) {
                row.state = CommandState::Delivered;
                row.delivered_at = Some(row.created_at);
                delivered.push(row.id);
            }
            // Some have ended already: rejected, or skipped because the agent is offline.
            tx.metrics.ended(row.state, 1);
            if call.is_some() {
                calls.push(row.clone());
            }
            new.push(row.into_active_model());
        }
        let gone = self.executions.len() - new.len();
        let job = job::Model { agent_count: new.len() as i64, ..self.row.clone() };
        job::Entity::insert(job.into_active_model()).exec_without_returning(transaction).await?;
        if let Some(rollout) = self.rollout.clone() {
            let rollout = rollout.into_active_model();
            rollout::Entity::insert(rollout).exec_without_returning(transaction).await?;
        }
        rows::insert(transaction, new, None).await?;
        if let Some(call) = call {
            record_calls(transaction, call, &calls).await?;
        }
        if let Some(approval) = self.approval.clone() {
            tx.outbox.append([approval.requested_event()]);
            let approval = approval.into_active_model();
            approval::Entity::insert(approval).exec_without_returning(transaction).await?;
        }
        if let Some(record) = self.record() {
            idempotency_record::Entity::insert(record).exec_without_returning(transaction).await?;
        }
        tx.audit.append([self.audit.clone()]);
        Ok(SubmittedJob::New { delivered, gone })
    }

    fn is_same_request(&self, hash: &[u8]) -> bool {
        self.idempotency.as_ref().is_some_and(|idempotency| idempotency.request_hash == hash)
    }

    fn record_key(&self) -> Option<RecordKey> {
        let idempotency = self.idempotency.as_ref()?;
        Some((self.row.tenant_id, self.row.requested_by, idempotency.key.clone()))
    }

    fn record(&self) -> Option<idempotency_record::ActiveModel> {
        let idempotency = self.idempotency.as_ref()?;
        let record = idempotency_record::Model {
            tenant_id: self.row.tenant_id,
            principal_id: self.row.requested_by,
            key: idempotency.key.clone(),
            request_hash: idempotency.request_hash.to_vec(),
            // The column is named after commands, for which most records are.
            command_id: CommandId(self.row.id.0),
            created_at: self.row.created_at,
        };
        Some(record.into_active_model())
    }
}
