//! Jobs: one request for many agents.

mod plan;
pub mod preview;
mod retry;
mod rollout_actions;
mod run_options;
mod scheduled;
mod selection;
mod storage;
pub(in crate::services::commands) mod submission;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

pub(in crate::services) use self::scheduled::FireResult;
use super::approvals::of_work::approvals_of;
use super::delivery::CommandDelivery;
use super::preflight::{OnMismatch, Preflight};
use super::submission_limiter::SubmissionLimiter;
use crate::domain::access::principal::Scope;
use crate::domain::commands::approval::WorkApproval;
use crate::domain::commands::ladder::Confirmation;
use crate::domain::commands::offline_policy::OfflinePolicy;
use crate::domain::commands::records::JobRecord;
use crate::domain::commands::retries::RetrySpec;
use crate::domain::commands::rollout::RolloutSpec;
use crate::domain::commands::trigger::Trigger;
use crate::domain::commands::work::WorkKind;
use crate::domain::fleet::target::TargetSpec;
use crate::domain::ids::{AgentId, JobId};
use crate::domain::outbound::OutboundReach;
use crate::domain::page::{Page, PageRequest};
use crate::domain::time::Clock;
use crate::hub::{Hub, SessionMessage};
use crate::services::Settings;
use crate::services::access::caller::{Caller, Subject};
use crate::services::access::work_guard::WorkGuard;
use crate::services::error::{Result, ServiceError};
use crate::services::fleet::presence::Presence;
use crate::services::library::Library;
use crate::store::Store;
use crate::store::queries::{EndedIn, JobFilter, JobProgress, RolloutProgress};

/// Most executions of one job.
pub const MAX_EXECUTIONS: usize = 10_000;

const UNKNOWN: ServiceError = ServiceError::NotFound("job");

/// Use cases of jobs.
#[derive(Clone, Debug)]
pub struct Jobs {
    pub(in crate::services) store: Store,
    pub(in crate::services) hub: Arc<Hub>,
    pub(in crate::services) clock: Clock,
    pub(in crate::services) settings: Settings,
    pub(in crate::services) delivery: CommandDelivery,
    pub(in crate::services) presence: Presence,
    pub(in crate::services) webhook_reach: OutboundReach,
    pub(in crate::services) preflight: Preflight,
    pub(in crate::services) limiter: SubmissionLimiter,
    pub(in crate::services) guard: WorkGuard,
    pub(in crate::services) library: Library,
}

/// A request for a job.
#[derive(Debug, Clone)]
pub struct JobRequest {
    pub script: Option<String>,
    /// Instead of a script: a program and its arguments.
    pub argv: Option<Value>,
    /// Instead of both: several of them.
    pub steps: Option<Value>,
    /// For a transfer of a file: what is transferred.
    pub file: Option<Value>,
    /// A JSON object of strings.
    pub parameters: Option<Value>,
    /// A JSON object of strings that are sealed and never shown.
    pub secret_parameters: Option<Value>,
    /// What the program reads from standard input, base64.
    pub stdin: Option<String>,
    pub timeout_ms: Option<u64>,
    pub expires_in_ms: Option<u64>,
    pub target: TargetSpec,
    /// Without it, all executions start at once.
    pub rollout: Option<RolloutSpec>,
    /// Receives a message when the job ends.
    pub webhook_url: Option<String>,
    pub idempotency_key: Option<String>,
    pub trigger: Trigger,
    /// The job that this one retries.
    pub retry_of: Option<JobId>,
    pub offline: OfflinePolicy,
    pub on_mismatch: OnMismatch,
    /// The number of agents that the caller expects.
    pub confirmation: Option<Confirmation>,
    /// Why it starts although a calendar holds it back.
    pub calendar_override: Option<String>,
    /// Runs executions again that failed or reached their timeout.
    pub retries: Option<RetrySpec>,
    /// The executions of an agent with the same lock run one at a time.
    pub lock: Option<String>,
}

/// Which executions of a job to retry.
#[derive(Debug, Clone)]
pub struct RetryScope {
    /// By how they ended.
    pub ended: EndedIn,
    /// Only on these agents, all of which must have an execution of the job.
    pub agent_ids: Option<Vec<AgentId>>,
}

/// A job with its progress.
#[derive(Debug, Clone)]
pub struct JobSnapshot {
    pub row: JobRecord,
    /// The name of who requested it, if the tenant still has it.
    pub requested_by_name: Option<String>,
    pub progress: JobProgress,
    pub rollout: Option<RolloutProgress>,
    /// The request for approval that it waits or waited for.
    pub approval: Option<WorkApproval>,
}

impl Jobs {
    /// One job.
    pub async fn get(&self, caller: &Caller, id: JobId) -> Result<JobSnapshot> {
        caller.require(Scope::CommandsRead)?;
        self.snapshot(caller, id).await
    }

    /// One job, for a caller whose right was checked.
    async fn snapshot(&self, caller: &Caller, id: JobId) -> Result<JobSnapshot> {
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let row = tenant.job(id).await?.ok_or(UNKNOWN)?;
        let progress = tenant.job_progress(&[id]).await?.remove(&id).unwrap_or_default();
        let rollout = tenant.rollouts(&[id]).await?.remove(&id);
        let approval = approvals_of(&tenant, [id].into(), BTreeSet::new()).await?.remove(&id.0);
        let requester = row.requested_by;
        let requested_by_name =
            tenant.principal_names([requester].into()).await?.remove(&requester);
        Ok(JobSnapshot { row: row.into(), requested_by_name, progress, rollout, approval })
    }

    /// One page of jobs, newest first.
    pub async fn list(
        &self,
        caller: &Caller,
        filter: &JobFilter,
        page: PageRequest,
    ) -> Result<Page<JobSnapshot>> {
        caller.require(Scope::CommandsRead)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let rows = tenant.jobs(filter, page).await?;
        let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
        let mut progress = tenant.job_progress(&ids).await?;
        let mut rollouts = tenant.rollouts(&ids).await?;
        let of_page = ids.iter().copied().collect();
        let mut approvals = approvals_of(&tenant, of_page, BTreeSet::new()).await?;
        let people = rows.iter().map(|row| row.requested_by).collect();
        let people = tenant.principal_names(people).await?;
        Ok(Page::of(rows, page, |row| row.id.0).map(|row| {
            let progress = progress.remove(&row.id).unwrap_or_default();
            let rollout = rollouts.remove(&row.id);
            let approval = approvals.remove(&row.id.0);
            let requested_by_name = people.get(&row.requested_by).cloned();
            JobSnapshot { row: row.into(), requested_by_name, progress, rollout, approval }
        }))
    }

    /// Requests the cancellation of every open execution. Queued ones end at once; for the others
    /// their agents decide. Repeatable.
    ///
    /// # Errors
    /// 403 if another key requested it and the caller lacks `commands:manage`.
    pub async fn cancel(&self, caller: &Caller, id: JobId) -> Result<JobSnapshot> {
        self.check_control(caller, id).await?;
        let now = self.clock.now();
        let audit = caller.audit("job.cancel", subject(id), &json!({}), now);
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let cancelled = tenant.cancel_job(id, now, audit).await?.ok_or(UNKNOWN)?;
        cancelled.ended.iter().for_each(|command_id| self.hub.notify_ended(*command_id, Some(id)));
        for (command_id, agent_id) in cancelled.sent {
            self.hub.notify_progress(command_id);
            if let Some(session) = self.hub.session(agent_id) {
                // If the session has just ended, the next one sends the cancel again.
                session.send_or_spawn(SessionMessage::Cancel(Box::new(command_id)));
            }
        }
        self.hub.notify_job_changed(id);
        self.snapshot(caller, id).await
    }

    /// Checks that the caller may cancel, pause, resume or abort this job.
    async fn check_control(&self, caller: &Caller, id: JobId) -> Result<()> {
        caller.require_own_control()?;
        let job = self.store.tenant(caller.principal.tenant_id).job(id).await?.ok_or(UNKNOWN)?;
        caller.require_control(job.requested_by)?;
        if job.requested_by == caller.principal.id || caller.principal.limits.is_empty() {
            return Ok(());
        }
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let agents = tenant.agents_of_job(id, &EndedIn::Any).await?;
        self.guard.check_limits(caller, WorkKind::Control, &agents).await
    }
}

fn subject(id: JobId) -> Subject {
    Subject { kind: "job", id: id.0 }
}
