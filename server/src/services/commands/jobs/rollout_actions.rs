//! Pause, resume and abort of roll-outs.

use serde_json::json;

use super::{JobSnapshot, Jobs, UNKNOWN, subject};
use crate::domain::access::principal::Scope;
use crate::domain::commands::job_state::{JobState, Stop};
use crate::domain::ids::JobId;
use crate::services::access::caller::Caller;
use crate::services::error::{Result, ServiceError};
use crate::store::queries::{RolloutAction, RolloutActionResult};

impl Jobs {
    /// Pauses, resumes or aborts the roll-out of a job. Repeatable.
    ///
    /// # Errors
    /// 409 `no_rollout` if the job has none, `wrong_state` if the job is past that.
    pub async fn steer(
        &self,
        caller: &Caller,
        id: JobId,
        steering: RolloutAction,
    ) -> Result<JobSnapshot> {
        caller.require(Scope::CommandsRun)?;
        let (action, verb) = match steering {
            RolloutAction::Pause => ("job.pause", "paused"),
            RolloutAction::Resume => ("job.resume", "resumed"),
            RolloutAction::Abort => ("job.abort", "aborted"),
        };
        let now = self.clock.now();
        let audit = caller.audit(action, subject(id), &json!({}), now);
        let tenant = self.store.tenant(caller.principal.tenant_id);
        match tenant.steer_rollout(id, steering, now, audit).await? {
            RolloutActionResult::Done { ended } => {
                for command_id in ended {
                    self.hub.notify_ended(command_id, Some(id));
                }
                self.hub.notify_job_changed(id);
                self.get(caller, id).await
            }
            RolloutActionResult::Unknown => Err(UNKNOWN),
            RolloutActionResult::NoRollout => Err(ServiceError::Conflict {
                code: "no_rollout",
                detail: format!("the job has no roll-out and can't be {verb}; cancel it to end it"),
            }),
            RolloutActionResult::Refused { state, stop } => Err(ServiceError::Conflict {
                code: "wrong_state",
                detail: refusal(verb, state, stop),
            }),
        }
    }
}

fn refusal(verb: &str, state: JobState, stop: Option<Stop>) -> String {
    match (state, stop) {
        (JobState::Running, Some(Stop::Cancelled)) => {
            format!("the job is being cancelled and can't be {verb}; wait for its end")
        }
        (JobState::Running, Some(Stop::Aborted)) => format!(
            "the job was aborted and can't be {verb}; what runs goes on to its end, or cancel it"
        ),
        (JobState::Halted, _) => {
            "the roll-out has halted by itself: resume it to go on, or abort it".to_owned()
        }
        (state, _) => {
            format!("the job is over ({}) and can't be {verb}; retry it instead", state.as_str())
        }
    }
}
