//! Requests for approval: people list them and decide. [`rules`] says which work needs one, and
//! [`request`] makes them.

mod capsules;
pub(super) mod draft;
mod ladder;
pub(in crate::services) mod of_work;
mod rules;

use std::collections::HashMap;
use std::sync::Arc;

use muster_protocol::CommandName;
use muster_protocol::commands::capsule::Capsule;
use muster_protocol::identity::Fingerprint;
use serde_json::json;

pub use self::capsules::MAX_CAPSULES;
use self::of_work::add_names;
pub use self::rules::NewApprovalRule;
use super::preflight::Preflight;
use crate::domain::access::principal::Scope;
use crate::domain::commands::approval::{ApprovalRecord, ApprovalState, MAX_DECISION_CHARS};
use crate::domain::commands::work::WorkKind;
use crate::domain::ids::{AgentId, ApprovalId, CommandId, TenantId};
use crate::domain::integrations::tenant_event::TenantEvent;
use crate::domain::name::is_invisible;
use crate::domain::page::{Page, PageRequest};
use crate::domain::time::{Clock, Timestamp};
use crate::hub::Hub;
use crate::services::access::caller::{AuditAction, Caller, Subject};
use crate::services::access::work_guard::WorkGuard;
use crate::services::error::{Result, ServiceError};
use crate::store::entities::access::audit_entry;
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
    /// The current names of the agents, in the order of `work`; `None` for an agent that was deleted.
    pub agent_names: Vec<Option<String>>,
    pub work: Vec<WorkToSign>,
}

/// One command of the work, as an approver signs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkToSign {
    pub command_id: CommandId,
    pub agent_id: AgentId,
    /// Of the host's key pair; `None` for a host without one.
    pub host_fingerprint: Option<Fingerprint>,
    /// The hash that the host's manifest requires of the script's file, as the host reported it.
    pub program_sha256: Option<String>,
    /// As `program_sha256`, of each step.
    pub step_programs_sha256: Vec<Option<String>>,
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
    /// 422 for a capsule that is not about the work; 403 `own_request` if the caller, or a key of the same person, made the request; the refusals of
    /// the limits of the caller's key; 409 `approval_outdated` if a host reports another script by now,
    /// `approval_ended` if the request is not pending.
    pub async fn approve(
        &self,
        caller: &Caller,
        id: ApprovalId,
        reason: Option<String>,
        capsules: Vec<Capsule>,
    ) -> Result<ApprovalSnapshot> {
        caller.require(Scope::ApprovalsDecide)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let row = tenant.approval(id).await?.ok_or(UNKNOWN)?;
        let mut signed = Vec::new();
        if row.state == ApprovalState::Pending {
            let work = tenant.commands_of_approval(&row).await?;
            let agents: Vec<_> = work.iter().map(|(_, agent_id)| *agent_id).collect();
            if !capsules.is_empty() {
                let hosts = tenant.agent_fingerprints(agents.clone()).await?;
                signed = capsules::check(&row, (&work, &hosts), capsules)?;
            }
            let kind = WorkKind::of_command(&row.command, row.script.as_deref());
            self.guard.check_limits(caller, kind, &agents).await?;
            self.check_script(&row, &agents).await?;
        }
        self.decide(caller, row, reason, Some(signed)).await
    }

    /// Says no: the work ends and is never sent.
    ///
    /// # Errors
    /// 403 `own_request`; the refusals of the limits of the caller's key; 409 `approval_ended`; 422
    /// without a reason.
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
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let row = tenant.approval(id).await?.ok_or(UNKNOWN)?;
        if row.state == ApprovalState::Pending {
            let commands = tenant.commands_of_approval(&row).await?;
            let agents: Vec<_> = commands.into_iter().map(|(_, agent_id)| agent_id).collect();
            let kind = WorkKind::of_command(&row.command, row.script.as_deref());
            self.guard.check_limits(caller, kind, &agents).await?;
        }
        self.decide(caller, row, reason, None).await
    }

    /// Ends the requests whose time is over, and those whose work has ended. Returns in how many
    /// milliseconds the next one expires; `None` if no request waits.
    ///
    /// # Errors
    /// [`StoreError`]; the next call ends what this one did not.
    pub async fn sweep(&self) -> std::result::Result<Option<u64>, StoreError> {
        let system = self.store.system();
        for ended in system.end_overdue_approvals(self.clock.now(), audit_of_end).await? {
            tracing::info!(approval_id = %ended.id, state = ended.state.as_str(), "a request for approval ended");
            for command_id in ended.ended {
                self.hub.notify_ended(command_id, ended.job_id);
            }
            self.publish(ended.tenant_id, ended.id, ended.state);
        }
        let next = system.next_approval_end().await?;
        Ok(next.map(|at| at.ms_since(self.clock.now())))
    }

    async fn decide(
        &self,
        caller: &Caller,
        row: approval::Model,
        reason: Option<String>,
        approved: Option<Vec<(CommandId, String)>>,
    ) -> Result<ApprovalSnapshot> {
        let is_approved = approved.is_some();
        let capsules = approved.unwrap_or_default();
        let reason = reason.map(check_reason).transpose()?;
        let now = self.clock.now();
        let action = if is_approved { "approval.approve" } else { "approval.refuse" };
        let detail = json!({
            "job_id": row.job_id, "command_id": row.command_id, "requested_by": row.requested_by,
            "reason": reason, "pinned": row.pinned.0, "capsules": capsules.len(),
        });
        let subject = Subject { kind: "approval", id: row.id.0 };
        let audit = caller.audit(action, subject, &detail, now);
        let by = caller.principal.id;
        let decision = Decision { is_approved, by, reason, capsules, now };
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
        let preflight = &self.preflight;
        let reported = preflight.reported_script(row.tenant_id, agents, script, &row.data).await?;
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
        let commands = tenant.commands_of_approval(&row).await?;
        let agents: Vec<_> = commands.iter().map(|(_, agent_id)| *agent_id).collect();
        let names = tenant.agent_names(agents.clone()).await?;
        let agent_names = agents.iter().map(|id| names.get(id).cloned()).collect();
        let script = row.script.as_deref().filter(|script| !script.is_empty());
        let entries = match script.filter(|_| row.state == ApprovalState::Pending) {
            Some(script) => {
                let preflight = &self.preflight;
                preflight.script_entries(row.tenant_id, &agents, script, &row.data).await?
            }
            None => HashMap::new(),
        };
        let hosts = tenant.agent_fingerprints(agents.clone()).await?;
        let work = commands.into_iter().map(|(command_id, agent_id)| WorkToSign {
            command_id,
            agent_id,
            host_fingerprint: hosts.get(&agent_id).copied(),
            program_sha256: entries.get(&agent_id).and_then(|entry| entry.sha256.clone()),
            step_programs_sha256: entries
                .get(&agent_id)
                .map(|entry| entry.step_sha256.clone())
                .unwrap_or_default(),
        });
        let mut row = ApprovalRecord::from(row);
        add_names(&tenant, std::slice::from_mut(&mut row)).await?;
        Ok(ApprovalSnapshot { row, agent_names, work: work.collect() })
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
        detail: "you, or one of your keys, made this request; another person must decide. Keys count as the person who created or rotated them, so all keys that come from the first key count as one person: invite a member, who can approve the requests of keys".into(),
    }
}

fn ended(state: ApprovalState) -> ServiceError {
    ServiceError::Conflict {
        code: "approval_ended",
        detail: format!("the request is {} and can't be decided any more", state.as_str()),
    }
}

/// The entry of a request that ended without a decision.
fn audit_of_end(row: &approval::Model, state: ApprovalState, now: Timestamp) -> audit_entry::Model {
    let is_expired = state == ApprovalState::Expired;
    let detail = json!({
        "job_id": row.job_id, "command_id": row.command_id, "requested_by": row.requested_by,
    });
    AuditAction {
        tenant_id: row.tenant_id,
        action: if is_expired { "approval.expire" } else { "approval.withdraw" },
        subject: Subject { kind: "approval", id: row.id.0 },
        detail: &detail,
        at: now,
    }
    .by_system()
}
