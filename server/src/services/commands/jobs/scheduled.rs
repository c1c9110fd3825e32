//! Jobs of schedules, on the same path as jobs that people submit.

use muster_protocol::CommandName;

use super::{JobRequest, Jobs};
use crate::domain::access::principal::Scope;
use crate::domain::fleet::target::Target;
use crate::domain::ids::JobId;
use crate::services::access::caller::Caller;
use crate::services::commands::library_pin::check_script;
use crate::services::commands::preflight::Executable;
use crate::services::error::{Result, ServiceError};
use crate::store::FireStart;

/// The fire got a job from another attempt, or gets none.
pub(super) const FIRE_NOT_OPEN: ServiceError = ServiceError::NotFound("open fire");
/// The previous job of the schedule has not finished.
pub(super) const FIRE_OVERLAPS: ServiceError = ServiceError::Busy {
    code: "fire_overlaps",
    detail: "the previous job of this schedule has not finished",
};

/// The result of an attempt to give a fire its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::services) enum FireResult {
    Submitted(JobId),
    NotOpen,
    Overlap,
}

impl Jobs {
    /// Submits the job of a fire, with the rights of the schedule's owner. Repeatable: a fire gets one
    /// job.
    ///
    /// # Errors
    /// As [`Jobs::submit`].
    pub(in crate::services) async fn submit_fire(
        &self,
        owner: &Caller,
        request: JobRequest,
        fire: FireStart,
    ) -> Result<FireResult> {
        match self.submit_for(owner, request, Some(fire)).await {
            Ok(job) => Ok(FireResult::Submitted(job.row.id)),
            Err(ServiceError::NotFound("open fire")) => Ok(FireResult::NotOpen),
            Err(ServiceError::Busy { code: "fire_overlaps", .. }) => Ok(FireResult::Overlap),
            Err(error) => Err(error),
        }
    }

    /// Checks a job that a schedule will submit, as far as it does not depend on the moment.
    ///
    /// # Errors
    /// 403 or 422, as [`Jobs::submit`].
    pub(in crate::services) fn check_template(
        &self,
        caller: &Caller,
        request: JobRequest,
    ) -> Result<()> {
        caller.require(Scope::CommandsRun)?;
        let target = Target::try_from(request.target.clone())?;
        let options = request.run_options();
        let checked = request.valid_rollout().and(options);
        let validated = checked.and_then(|_| request.into_command().validate(CommandName::Execute));
        let validated = validated.map_err(|error| error.moved("data.", "job."))?;
        validated.check_secret_target(&target)?;
        validated.check_scope(caller)
    }

    /// Checks that the library has the script of a job that is submitted later, and that its parameters
    /// fit. `open`: parameters whose values are not known before. Hosts decide about their own scripts.
    ///
    /// # Errors
    /// 422 `unknown_library_script`, `unknown_version` or `invalid_parameters`.
    pub(in crate::services) async fn check_script(
        &self,
        caller: &Caller,
        request: JobRequest,
        open: &[String],
    ) -> Result<()> {
        let validated = request.into_command().validate(CommandName::Execute);
        let validated = validated.map_err(|error| error.moved("data.", "job."))?;
        let tenant_id = caller.principal.tenant_id;
        for (executable, secrets) in validated.runs() {
            let Executable::Library { reference, parameters, .. } = executable else { continue };
            let values = (parameters, secrets);
            check_script(&self.library, tenant_id, reference, values, open).await?;
        }
        Ok(())
    }

    /// Checks the agents that a schedule's job would reach now. Each fire is checked again.
    ///
    /// # Errors
    /// 403 `refused_by_ladder`, and the refusals of the caller's limits; 409 `agent_count_unconfirmed`.
    pub(in crate::services) async fn check_reach(
        &self,
        caller: &Caller,
        request: JobRequest,
    ) -> Result<()> {
        let target = Target::try_from(request.target.clone())?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let resolved = tenant.resolve(&target, |id| self.hub.is_connected(id)).await?;
        let agents: Vec<_> = resolved.agents.into_iter().map(|facts| facts.id).collect();
        let validated = request.into_command().validate(CommandName::Execute);
        let validated = validated.map_err(|error| error.moved("data.", "job."))?;
        let (kind, confirmation) = (validated.kind(), validated.confirmation);
        // An approval is asked for at each fire.
        let _ = self.guard.check_planned(caller, kind, &agents, confirmation).await?;
        Ok(())
    }
}
