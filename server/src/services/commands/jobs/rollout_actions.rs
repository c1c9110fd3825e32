//! Pauses, resumes and aborts rollouts.

use muster_protocol::CommandName;
use serde_json::json;

use super::{JobSnapshot, Jobs, UNKNOWN, subject};
use crate::domain::commands::job_state::{JobState, Stop};
use crate::domain::commands::work::WorkKind;
use crate::domain::ids::JobId;
use crate::services::access::caller::Caller;
use crate::services::error::{Result, ServiceError};
use crate::store::queries::{EndedIn, RolloutAction, RolloutActionResult};

impl Jobs {
    /// Pauses, resumes or aborts the rollout of a job. Repeatable.
    ///
    /// # Errors
    /// 403 if another key requested it and the caller lacks `commands:manage`; 409 `no_rollout` if the job has no rollout, `wrong_state` if its state does not allow the action.
    pub async fn apply_rollout_action(
        &self,
        caller: &Caller,
        id: JobId,
        action: RolloutAction,
    ) -> Result<JobSnapshot> {
        self.check_control(caller, id).await?;
        if action == RolloutAction::Resume {
            self.check_takeover(caller, id).await?;
        }
        let (audit_action, verb) = match action {
            RolloutAction::Pause => ("job.pause", "paused"),
            RolloutAction::Resume => ("job.resume", "resumed"),
            RolloutAction::Abort => ("job.abort", "aborted"),
        };
        let now = self.clock.now();
        let audit = caller.audit(audit_action, subject(id), &json!({}), now);
        let tenant = self.store.tenant(caller.principal.tenant_id);
        match tenant.apply_rollout_action(id, action, caller.principal.id, now, audit).await? {
            RolloutActionResult::Done { ended } => {
                for command_id in ended {
                    self.hub.notify_ended(command_id, Some(id));
                }
                self.hub.notify_job_changed(id);
                self.snapshot(caller, id).await
            }
            RolloutActionResult::Unknown => Err(UNKNOWN),
            RolloutActionResult::NoRollout => Err(ServiceError::Conflict {
                code: "no_rollout",
                detail: format!("a job without a rollout can't be {verb}; cancel it to end it"),
            }),
            RolloutActionResult::Refused { state, stop } => Err(ServiceError::Conflict {
                code: "wrong_state",
                detail: refusal(verb, state, stop),
            }),
        }
    }

    /// Who resumes a rollout becomes its requester, and so must be allowed to start it.
    async fn check_takeover(&self, caller: &Caller, id: JobId) -> Result<()> {
        if caller.principal.limits.is_empty() {
            return Ok(());
        }
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let job = tenant.job(id).await?.ok_or(UNKNOWN)?;
        let agents = tenant.agents_of_job(id, &EndedIn::Any).await?;
        let kind = WorkKind::of_command(CommandName::Execute.as_str(), Some(&job.script));
        self.guard.check_limits(caller, kind, &agents).await
    }
}

fn refusal(verb: &str, state: JobState, stop: Option<Stop>) -> String {
    match (state, stop) {
        (JobState::Running, Some(Stop::Cancelled)) => {
            format!("the job is being cancelled and can't be {verb}; wait until it ends")
        }
        (JobState::Running, Some(Stop::Aborted)) => format!(
            "the job was aborted and can't be {verb}; wait until its running executions end, or cancel it"
        ),
        (JobState::AwaitingApproval, _) => {
            format!(
                "the job waits for an approval and can't be {verb}; approve, refuse or cancel it"
            )
        }
        (JobState::Halted, _) => "the rollout has halted by itself; resume or abort it".to_owned(),
        (state, _) => {
            format!("the job has ended ({}) and can't be {verb}; retry it instead", state.as_str())
        }
    }
}
