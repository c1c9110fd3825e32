//! Stores a validated job with its executions, and delivers those that can be sent at once.

use std::sync::Arc;

use muster_protocol::CommandName;
use muster_protocol::library::ScriptContent;
use muster_protocol::parameter::secret_parameters::SecretParameters;
use serde_json::json;

use super::plan::{InitialState, PlannedRollout};
use super::scheduled::{FIRE_NOT_OPEN, FIRE_OVERLAPS};
use super::selection::SkippedAgents;
use super::{Jobs, subject};
use crate::domain::commands::command_state::{CommandState, EndReason};
use crate::domain::commands::trigger::Trigger;
use crate::domain::ids::{AgentId, CommandId, JobId};
use crate::services::access::caller::Caller;
use crate::services::commands::approvals::draft::{ApprovalDraft, WaitingWork, hold};
use crate::services::commands::delivery::Reservation;
use crate::services::commands::idempotency::key_reused;
use crate::services::commands::request::ValidatedCommand;
use crate::services::commands::secret_parameters::seal;
use crate::services::error::Result;
use crate::store::entities::commands::command::NewCommand;
use crate::store::entities::commands::{command, job};
use crate::store::writer::{Idempotency, NewExecution, SubmitJob, SubmittedJob};
use crate::store::{FireStart, StoreError};

/// A validated job for existing agents.
pub(super) struct NewJob {
    pub(super) row: job::Model,
    pub(super) validated: ValidatedCommand,
    pub(super) idempotency: Option<Idempotency>,
    pub(super) agents: Vec<AgentId>,
    /// Those that are skipped. The plan is about the others.
    pub(super) skipped: SkippedAgents,
    pub(super) planned: Option<PlannedRollout>,
    pub(super) trigger: Trigger,
    /// The request for approval that the job waits for.
    pub(super) draft: Option<ApprovalDraft>,
    /// The fire of a schedule that gets this job.
    pub(super) fire: Option<FireStart>,
}

impl Jobs {
    /// Stores the job with its executions and sends those that got a slot. For a repeated request,
    /// returns the job that the first one created.
    pub(super) async fn store(&self, caller: &Caller, new: NewJob) -> Result<JobId> {
        let NewJob {
            row,
            mut validated,
            idempotency,
            agents,
            skipped,
            planned,
            trigger,
            draft,
            fire,
        } = new;
        let (id, created_at) = (row.id, row.created_at);
        let rollout =
            planned.as_ref().map(|planned| planned.row(row.tenant_id, id, validated.expires_in_ms));
        let waves = rollout.as_ref().map(|rollout| rollout.wave_count);
        let (what, work) = validated.audit_detail();
        let approval = draft.map(|draft| draft.into_row(&WaitingWork::Job(id), created_at));
        let approval_id = approval.as_ref().map(|approval| approval.id);
        let tenant_id = row.tenant_id;
        let mut detail =
            json!({what: work, "agents": agents.len(), "waves": waves, "approval_id": approval_id});
        if let Some(reason) = &validated.calendar_override {
            detail["calendar_override"] = json!(reason);
        }
        if let Some(fire) = &fire {
            detail["schedule_id"] = json!(fire.schedule_id);
        }
        let audit = caller.audit("job.submit", subject(id), &detail, created_at);
        let secrets = Arc::new(std::mem::take(&mut validated.secret_parameters));
        let contents = std::mem::take(&mut validated.contents);
        let mut initial_states = planned.as_ref().map(PlannedRollout::initial_states);
        let mut reservations = Vec::new();
        let mut executions = Vec::with_capacity(agents.len());
        for agent_id in agents {
            let initial = match skipped.get(&agent_id) {
                Some(reason) => InitialState::Skipped(*reason),
                None => initial_states
                    .as_mut()
                    .and_then(Iterator::next)
                    .unwrap_or(InitialState::Ready { wave: None }),
            };
            let mut execution = self.execution(&row, &validated, &secrets, agent_id, trigger)?;
            execution.request_id = caller.request_id.as_deref().map(str::to_owned);
            let reservation = match initial.apply(&mut execution) {
                true if approval.is_some() => {
                    hold(&mut execution);
                    None
                }
                // Its data is read, or its lock checked, when it is sent.
                true if validated.call.is_some() || execution.lock_name.is_some() => None,
                true => self.reserve(&mut execution, (&secrets, &contents)),
                false => None,
            };
            let deliver_in_epoch = reservation.as_ref().map(Reservation::epoch);
            executions.push(NewExecution { row: execution, deliver_in_epoch });
            reservations.extend(reservation);
        }
        let new: Vec<_> =
            executions.iter().map(|execution| Announcement::of(&execution.row)).collect();
        let operation = SubmitJob { row, rollout, executions, idempotency, fire, audit, approval };
        match self.delivery.commit(operation, reservations, created_at).await? {
            SubmittedJob::New { delivered, .. } => {
                for new in new.iter().filter(|new| delivered.binary_search(&new.id).is_err()) {
                    self.hub.announce_new(new.agent_id, new.id, new.is_ready);
                }
                if let Some(id) = approval_id {
                    self.hub.notify_approval_requested(tenant_id, id);
                }
                // All of its executions may have ended with their insert.
                self.hub.notify_job_changed(id);
                Ok(id)
            }
            SubmittedJob::Repeated { job_id } => Ok(job_id),
            SubmittedJob::KeyReused => Err(key_reused()),
            SubmittedJob::KeyInvalid => Err(StoreError::KeyInvalid.into()),
            SubmittedJob::FireNotOpen => Err(FIRE_NOT_OPEN),
            SubmittedJob::FireOverlaps => Err(FIRE_OVERLAPS),
        }
    }

    /// Reserves a slot for an execution that may start now. If the agent's key does not allow it,
    /// this execution alone is rejected; the rest of the job is not affected.
    fn reserve(
        &self,
        row: &mut command::Model,
        parts: (&Arc<SecretParameters>, &[Arc<ScriptContent>]),
    ) -> Option<Reservation> {
        let session = self.hub.session(row.agent_id)?;
        if !session.grant().permissions.allows(CommandName::Execute) {
            row.state = CommandState::Rejected;
            row.end_reason = Some(EndReason::PermissionRevoked);
            row.finished_at = Some(row.created_at);
            row.sealed_parameters = None;
            return None;
        }
        self.delivery.reserve_new(&session, row, parts)
    }

    fn execution(
        &self,
        job: &job::Model,
        validated: &ValidatedCommand,
        secrets: &SecretParameters,
        agent_id: AgentId,
        trigger: Trigger,
    ) -> Result<command::Model> {
        let new = NewCommand {
            id: CommandId::new(),
            tenant_id: job.tenant_id,
            agent_id,
            name: CommandName::Execute,
            data: job.data.clone(),
            // Each execution has a seal of its own.
            sealed_parameters: seal(&self.delivery.secret_box, job.tenant_id, secrets)?,
            requested_by: job.requested_by,
            requested_from: job.requested_from.clone(),
            created_at: job.created_at,
            expires_in_ms: validated.expires_in_ms,
            timeout_ms: validated.timeout_ms,
            lost_after_ms: self.settings.lost_after_ms,
            job_id: Some(job.id),
            script: Some(job.script.clone()),
            trigger,
            retry_of: None,
            lock_name: job.lock_name.clone(),
            request_id: None,
        };
        Ok(new.into_row())
    }
}

/// A new execution, as far as its announcement needs it after the commit.
struct Announcement {
    id: CommandId,
    agent_id: AgentId,
    /// It may be sent now.
    is_ready: bool,
}

impl Announcement {
    fn of(row: &command::Model) -> Self {
        let is_ready = row.state == CommandState::Queued && !row.is_held;
        Self { id: row.id, agent_id: row.agent_id, is_ready }
    }
}
