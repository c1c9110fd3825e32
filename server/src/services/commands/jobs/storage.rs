//! A job that makes sense is stored, and what can be sent of it is sent.

use std::collections::HashMap;
use std::sync::Arc;

use muster_protocol::secret_parameters::SecretParameters;
use muster_protocol::{CloseCode, CommandName};
use serde_json::json;

use super::plan::{InitialState, PlannedRollout};
use super::{Jobs, subject};
use crate::domain::commands::command_state::{CommandState, EndReason};
use crate::domain::commands::trigger::Trigger;
use crate::domain::ids::{AgentId, CommandId, JobId};
use crate::hub::{SessionHandle, SessionMessage};
use crate::services::access::caller::Caller;
use crate::services::commands::Checked;
use crate::services::commands::secret_parameters;
use crate::services::commands::secret_parameters::Outgoing;
use crate::services::error::{Result, ServiceError};
use crate::store::entities::commands::{command, job};
use crate::store::writer::{Idempotency, NewExecution, SubmitJob, SubmittedJob};

const KEY_REUSED: &str = "this Idempotency-Key belongs to another request; use a new one";

/// A job that makes sense, on agents that are there.
pub(super) struct Submission {
    pub(super) row: job::Model,
    pub(super) checked: Checked,
    pub(super) idempotency: Option<Idempotency>,
    pub(super) agents: Vec<AgentId>,
    pub(super) planned: Option<PlannedRollout>,
    pub(super) trigger: Trigger,
}

type Held = HashMap<CommandId, Arc<SessionHandle>>;

impl Jobs {
    /// Stores it with its executions, and sends those that can be sent. Of a request that was made
    /// before, the job that it made then.
    pub(super) async fn store_and_send(
        &self,
        caller: &Caller,
        submission: Submission,
    ) -> Result<JobId> {
        let Submission { row, checked, idempotency, agents, planned, trigger } = submission;
        let id = row.id;
        let rollout =
            planned.as_ref().map(|planned| planned.row(row.tenant_id, id, checked.expires_in_ms));
        let waves = rollout.as_ref().map(|rollout| rollout.wave_count);
        let (what, work) = checked.audited();
        let detail = json!({what: work, "agents": agents.len(), "waves": waves});
        let audit = caller.audit("job.submit", subject(id), &detail, row.created_at);
        let mut held = Held::new();
        let mut executions = Vec::with_capacity(agents.len());
        let mut beginnings = planned.as_ref().map(PlannedRollout::initial_states);
        for agent_id in agents {
            let beginning = beginnings.as_mut().and_then(Iterator::next);
            let beginning = beginning.unwrap_or(InitialState::Released { wave: None });
            let mut execution = self.execution(&row, &checked, agent_id, beginning, &mut held)?;
            execution.row.trigger = trigger;
            executions.push(execution);
        }
        let rows: Vec<_> = executions.iter().map(|execution| execution.row.clone()).collect();
        let secrets = checked.secret_parameters;
        let operation = SubmitJob { row, rollout, executions, idempotency, audit };
        match self.store.writer().commit(operation).await {
            Ok(SubmittedJob::New { delivered, .. }) => {
                self.follow_up(rows, &secrets, &delivered, &held);
                // All of its executions may have ended as they were made.
                self.hub.job_changed(id);
                Ok(id)
            }
            Ok(SubmittedJob::Repeated { job_id }) => {
                self.give_back(&held);
                Ok(job_id)
            }
            Ok(SubmittedJob::KeyReused) => {
                self.give_back(&held);
                Err(key_reused())
            }
            Err(error) => {
                // It may stand as delivered, though no frame has left: the next sessions'
                // inventories tell.
                held.values().for_each(|session| session.close(CloseCode::TryAgainLater));
                Err(error.into())
            }
        }
    }

    /// One execution; if its agent is connected and has room, its place is taken.
    fn execution(
        &self,
        job: &job::Model,
        checked: &Checked,
        agent_id: AgentId,
        beginning: InitialState,
        held: &mut Held,
    ) -> Result<NewExecution> {
        let mut row = command::Model {
            id: CommandId::new(),
            tenant_id: job.tenant_id,
            agent_id,
            command: CommandName::Execute.as_str().to_owned(),
            data: job.data.clone(),
            // Each is sealed for itself.
            sealed_parameters: secret_parameters::seal(
                &self.secret_box,
                job.tenant_id,
                &checked.secret_parameters,
            )?,
            state: CommandState::Queued,
            end_reason: None,
            requested_by: job.requested_by,
            requested_from: job.requested_from.clone(),
            created_at: job.created_at,
            expires_at: job.created_at.plus_ms(checked.expires_in_ms),
            timeout_ms: checked.timeout_ms.cast_signed(),
            lost_after_ms: self.settings.lost_after_ms.cast_signed(),
            delivered_at: None,
            started_at: None,
            finished_at: None,
            cancel_requested_at: None,
            job_id: Some(job.id),
            wave: None,
            is_held: false,
            script: Some(job.script.clone()),
            trigger: Trigger::Api,
        };
        if !beginning.apply(&mut row) {
            return Ok(NewExecution { row, deliver_in_epoch: None });
        }
        let session = self.hub.session(agent_id);
        if session
            .as_ref()
            .is_some_and(|session| !session.grant().permissions.allows(CommandName::Execute))
        {
            // The key is law; the rest of the job is not its concern.
            row.state = CommandState::Rejected;
            row.end_reason = Some(EndReason::PermissionRevoked);
            row.finished_at = Some(row.created_at);
            row.sealed_parameters = None;
            return Ok(NewExecution { row, deliver_in_epoch: None });
        }
        // What can't be sent to an agent as it is, is refused where all that is queued is looked
        // at.
        let is_sendable = |session: &Arc<SessionHandle>| {
            checked.secret_parameters.is_empty() || session.takes_secrets
        };
        let session =
            session.filter(|session| is_sendable(session) && session.try_acquire_new(row.id));
        let deliver_in_epoch = session.as_ref().map(|session| session.epoch);
        if let Some(session) = session {
            held.insert(row.id, session);
        }
        Ok(NewExecution { row, deliver_in_epoch })
    }

    fn follow_up(
        &self,
        rows: Vec<command::Model>,
        secrets: &SecretParameters,
        delivered: &[CommandId],
        held: &Held,
    ) {
        for mut row in rows {
            self.hub.notify_progress(row.id);
            let session = held.get(&row.id);
            match session {
                Some(session) if delivered.binary_search(&row.id).is_ok() => {
                    let now = row.created_at;
                    self.meters.sent(self.clock.now().ms_since(now));
                    row.state = CommandState::Delivered;
                    // If the session has ended meanwhile, the next one's inventory does not list
                    // the command, which puts it back into the queue.
                    let frame = Outgoing::new(row, secrets.clone()).into_frame(now);
                    let frame = Box::new(frame);
                    session.send_or_spawn(SessionMessage::Command { frame, held: true });
                }
                Some(session) => {
                    session.release(row.id);
                    self.hub.wake(row.agent_id);
                }
                None if row.state == CommandState::Queued
                    && !row.is_held
                    && self.hub.is_connected(row.agent_id) =>
                {
                    self.hub.wake(row.agent_id);
                }
                None => {}
            }
        }
    }

    fn give_back(&self, held: &Held) {
        for (id, session) in held {
            if session.release(*id) {
                self.hub.wake(session.agent_id);
            }
        }
    }
}

/// The key of a request stands for another one.
pub(super) fn key_reused() -> ServiceError {
    ServiceError::Invalid { code: "idempotency_key_reused", detail: KEY_REUSED.into() }
}
