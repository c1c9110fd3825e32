//! Requests for approval: people list them and decide. [`rules`] says which work needs one, and
//! [`request`] makes them.

pub(in crate::services) mod of_work;
pub(super) mod request;
mod rules;

use std::sync::Arc;

use muster_protocol::CommandName;
use serde_json::json;

use self::of_work::add_names;
pub use self::rules::NewApprovalRule;
use super::preflight::Preflight;
use crate::domain::access::principal::Scope;
use crate::domain::commands::approval::{ApprovalRecord, ApprovalState, MAX_DECISION_CHARS};
use crate::domain::commands::work::WorkKind;
use crate::domain::ids::{AgentId, ApprovalId, TenantId};
use crate::domain::integrations::tenant_event::TenantEvent;
use crate::domain::name::is_invisible;
use crate::domain::page::{Page, PageRequest};
use crate::domain::time::Clock;
use crate::hub::Hub;
use crate::services::access::caller::{Caller, Subject};
use crate::services::access::work_guard::WorkGuard;
use crate::services::error::{Result, ServiceError};
use crate::store::entities::commands::approval;
use crate::store::queries::{Decision, DecisionResult};
use crate::store::{Store, StoreError};

const UNKNOWN: ServiceError = ServiceError::NotFound("request for approval");

/// Use cases of approvals.
#[derive(Clone, Debug)]
pub struct Approvals {
    pub(in crate::services) store: Store,
    pub(in crate::services) hub: Arc<Hub>,
    pub(in crate::services) clock: Clock,
    pub(in crate::services) preflight: Preflight,
    pub(in crate::services) guard: WorkGuard,
}

/// A request with the agents of its work.
#[derive(Debug, Clone)]
pub struct ApprovalSnapshot {
    pub row: ApprovalRecord,
    pub agents: Vec<AgentId>,
    /// Their current names, in the same order; `None` for an agent that was deleted.
    pub agent_names: Vec<Option<String>>,
}

impl Approvals {
    /// One page of requests, newest first. Those that ended stay.
    pub async fn list(
        &self,
        caller: &Caller,
        state: Option<ApprovalState>,
        page: PageRequest,
    ) -> Result<Page<ApprovalRecord>> {
        caller.require(Scope::CommandsRead)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let rows = tenant.approvals(state, page).await?;
        let mut page = Page::of(rows, page, |row| row.id.0).map(ApprovalRecord::from);
        add_names(&tenant, &mut page.items).await?;
        Ok(page)
    }

    /// One request.
    pub async fn get(&self, caller: &Caller, id: ApprovalId) -> Result<ApprovalSnapshot> {
        caller.require(Scope::CommandsRead)?;
        self.snapshot(caller, id).await
    }

    /// Says yes: the work is released, exactly as it was requested.
    ///
    /// # Errors
    /// 403 `own_request` if the caller, or a key of the same person, made the request; the refusals of
    /// the limits of the caller's key; 409 `approval_outdated` if a host reports another script by now,
    /// `approval_ended` if the request is not pending.
    pub async fn approve(
        &self,
        caller: &Caller,
        id: ApprovalId,
        reason: Option<String>,
    ) -> Result<ApprovalSnapshot> {
        caller.require(Scope::ApprovalsDecide)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let row = tenant.approval(id).await?.ok_or(UNKNOWN)?;
        if row.state == ApprovalState::Pending {
            let agents = tenant.agents_of_approval(&row).await?;
            let kind = WorkKind::of_command(&row.command, row.script.as_deref());
            self.guard.check_limits(caller, kind, &agents).await?;
            self.check_script(&row, &agents).await?;
        }
        self.decide(caller, row, reason, true).await
    }

    /// Says no: the work ends and is never sent.
    ///
    /// # Errors
    /// 403 `own_request`; 409 `approval_ended`; 422 without a reason.
    pub async fn refuse(
        &self,
        caller: &Caller,
        id: ApprovalId,
        reason: Option<String>,
    ) -> Result<ApprovalSnapshot> {
        caller.require(Scope::ApprovalsDecide)?;
        if reason.is_none() {
            return Err(ServiceError::required("reason"));
        }
        let row = self.store.tenant(caller.principal.tenant_id).approval(id).await?;
        self.decide(caller, row.ok_or(UNKNOWN)?, reason, false).await
    }

    /// Ends the requests whose time is over, and those whose work has ended.
    ///
    /// # Errors
    /// [`StoreError`]; the next call ends what this one did not.
    pub async fn sweep(&self) -> std::result::Result<(), StoreError> {
        for ended in self.store.system().end_overdue_approvals(self.clock.now()).await? {
            tracing::info!(approval_id = %ended.id, state = ended.state.as_str(), "a request for approval ended");
            for command_id in ended.ended {
                self.hub.notify_ended(command_id, ended.job_id);
            }
            self.publish(ended.tenant_id, ended.id, ended.state);
        }
        Ok(())
    }

    async fn decide(
        &self,
        caller: &Caller,
        row: approval::Model,
        reason: Option<String>,
        is_approved: bool,
    ) -> Result<ApprovalSnapshot> {
        let reason = reason.map(check_reason).transpose()?;
        let now = self.clock.now();
        let action = if is_approved { "approval.approve" } else { "approval.refuse" };
        let detail = json!({
            "job_id": row.job_id, "command_id": row.command_id, "requested_by": row.requested_by,
            "reason": reason, "pinned": row.pinned.0,
        });
        let subject = Subject { kind: "approval", id: row.id.0 };
        let audit = caller.audit(action, subject, &detail, now);
        let decision = Decision { is_approved, by: caller.principal.id, reason, now };
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let released = match tenant.decide_approval(row.id, decision, audit).await? {
            DecisionResult::Done(released) => released,
            DecisionResult::Unknown => return Err(UNKNOWN),
            DecisionResult::NotPending(state) => return Err(ended(state)),
            DecisionResult::OwnRequest => return Err(own_request()),
        };
        released.ended.iter().for_each(|id| self.hub.notify_ended(*id, row.job_id));
        released.agents.iter().for_each(|agent_id| self.hub.wake(*agent_id));
        if let Some(job_id) = row.job_id {
            self.hub.notify_job_changed(job_id);
        }
        let state = if is_approved { ApprovalState::Approved } else { ApprovalState::Refused };
        self.publish(row.tenant_id, row.id, state);
        self.snapshot(caller, row.id).await
    }

    /// Checks that the hosts would run the script that was requested.
    async fn check_script(&self, row: &approval::Model, agents: &[AgentId]) -> Result<()> {
        let script = row.script.as_deref().filter(|_| row.command == CommandName::Execute.as_str());
        let (Some(pinned), Some(script)) = (&row.pinned.0.script_sha256, script) else {
            return Ok(());
        };
        let reported = self.preflight.reported_script(row.tenant_id, agents, script).await?;
        if reported.sha256 == *pinned {
            return Ok(());
        }
        Err(ServiceError::Conflict {
            code: "approval_outdated",
            detail: format!(
                "the hosts report another `{script}` than when the work was requested, or some of its agents were deleted; refuse the request, and let it be submitted again"
            ),
        })
    }

    async fn snapshot(&self, caller: &Caller, id: ApprovalId) -> Result<ApprovalSnapshot> {
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let row = tenant.approval(id).await?.ok_or(UNKNOWN)?;
        let agents = tenant.agents_of_approval(&row).await?;
        let names = tenant.agent_names(agents.clone()).await?;
        let agent_names = agents.iter().map(|id| names.get(id).cloned()).collect();
        let mut row = ApprovalRecord::from(row);
        add_names(&tenant, std::slice::from_mut(&mut row)).await?;
        Ok(ApprovalSnapshot { row, agents, agent_names })
    }

    fn publish(&self, tenant_id: TenantId, id: ApprovalId, state: ApprovalState) {
        self.hub.event_log.append(tenant_id, TenantEvent::Approval { id, state });
    }
}

fn check_reason(reason: String) -> Result<String> {
    let is_line = reason.chars().all(|c| c == '\n' || !is_invisible(c));
    let length = reason.chars().count();
    if reason.trim().is_empty() || !is_line || length > MAX_DECISION_CHARS {
        return Err(ServiceError::invalid_field(
            "reason",
            "must be 1 to 500 characters, without control characters",
        ));
    }
    Ok(reason)
}

fn own_request() -> ServiceError {
    ServiceError::Forbidden {
        code: "own_request",
        detail: "you, or a key of yours, made this request; somebody else must decide. Keys count as the person who created or rotated them".into(),
    }
}

fn ended(state: ApprovalState) -> ServiceError {
    ServiceError::Conflict {
        code: "approval_ended",
        detail: format!("the request is {} and can't be decided any more", state.as_str()),
    }
}
