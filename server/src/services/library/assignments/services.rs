//! Services: assignments of packages that hosts keep running. People start, stop and restart them on the
//! agents of the assignment.

use std::collections::{BTreeMap, HashMap};

use muster_protocol::package::ServiceSettings;
use serde_json::json;

use super::{Assignments, UNKNOWN_SERVICE, target_of};
use crate::domain::access::principal::Scope;
use crate::domain::commands::ladder::Confirmation;
use crate::domain::commands::work::WorkKind;
use crate::domain::fleet::target::{Target, TargetSpec};
use crate::domain::ids::{AgentId, AssignmentId, ContentId, PackageId};
use crate::domain::library::assignment_records::{AssignedKind, AssignmentRecord, ServiceAction};
use crate::domain::page::{Page, PageRequest};
use crate::services::access::caller::Caller;
use crate::services::access::work_guard::Clearance;
use crate::services::error::{Result, ServiceError};
use crate::store::queries::ServiceRequest;

/// A service with the number of agents in each state, by their last reports.
#[derive(Debug, Clone)]
pub struct ServiceOverview {
    pub row: AssignmentRecord,
    pub counts: BTreeMap<String, i64>,
    /// What its package says; absent if it can't be read.
    pub settings: Option<ServiceSettings>,
}

/// What a person asks of a service.
#[derive(Debug, Clone)]
pub struct ServiceControlRequest {
    pub action: ServiceAction,
    /// Which of the agents of the assignment; all of them if absent.
    pub target: Option<TargetSpec>,
    /// The number of agents that the caller expects.
    pub confirmation: Option<Confirmation>,
}

impl Assignments {
    /// One page of services, newest first.
    pub async fn services(
        &self,
        caller: &Caller,
        page: PageRequest,
    ) -> Result<Page<ServiceOverview>> {
        caller.require(Scope::SchedulesRead)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let rows = tenant.services(page).await?;
        let ids: Vec<AssignmentId> = rows.iter().map(|row| row.id).collect();
        let mut counts = tenant.service_counts(&ids).await?;
        let packages = rows.iter().map(|row| PackageId(row.content_id.0)).collect();
        let packages = tenant.packages_of(packages).await?;
        let settings: HashMap<ContentId, Option<ServiceSettings>> = packages
            .iter()
            .map(|package| {
                (package.id.into(), package.content().and_then(|content| content.service))
            })
            .collect();
        Ok(Page::of(rows, page, |row| row.id.0).map(|row| {
            let counts = counts.remove(&row.id).unwrap_or_default();
            let settings = settings.get(&row.content_id).cloned().flatten();
            ServiceOverview { row: row.into(), counts, settings }
        }))
    }

    /// Starts, stops or restarts a service on agents of its assignment, also on those that are not
    /// connected: they follow when they are. Returns the number of agents.
    ///
    /// To stop the service of another needs the right to control the work of others.
    ///
    /// # Errors
    /// 403; 404; 409 `agent_count_unconfirmed`; 422 names the field.
    pub async fn control_service(
        &self,
        caller: &Caller,
        id: AssignmentId,
        request: ServiceControlRequest,
    ) -> Result<usize> {
        caller.require(Scope::CommandsRun)?;
        let row = self.find(caller, id).await?;
        if row.kind != AssignedKind::Service {
            return Err(UNKNOWN_SERVICE);
        }
        let agents = self.controlled_agents(&row, request.target).await?;
        if agents.is_empty() {
            let problem = "matches no agents of this service";
            return Err(ServiceError::invalid_field("target", problem));
        }
        let script = row.script();
        let kind = WorkKind::Script(&script);
        if request.action == ServiceAction::Stop {
            // As to cancel an execution. A key that runs only some packages stops only these.
            caller.require_control(row.created_by)?;
            self.guard.check_limits(caller, WorkKind::Control, &agents).await?;
            if caller.principal.limits.scripts.is_some() {
                self.guard.check_limits(caller, kind, &[]).await?;
            }
        } else {
            match self.guard.check(caller, kind, &agents, request.confirmation).await? {
                Clearance::Free => {}
                Clearance::NeedsApproval(needed) => {
                    let rules = needed.rules.join("`, `");
                    return Err(super::request::approval_needed(&format!("the rule `{rules}`")));
                }
            }
        }
        let now = self.clock.now();
        let action = match request.action {
            ServiceAction::Start => "service.start",
            ServiceAction::Stop => "service.stop",
            ServiceAction::Restart => "service.restart",
        };
        let detail = json!({"name": row.name, "agent_count": agents.len()});
        let audit = caller.audit(action, super::subject(id), &detail, now);
        let stored = ServiceRequest {
            assignment_id: id,
            action: request.action,
            requested_by: caller.principal.id,
            now,
        };
        let count = agents.len();
        match self.store.tenant(row.tenant_id).control_service(stored, agents, audit).await? {
            true => {
                self.changed.notify_one();
                Ok(count)
            }
            false => Err(UNKNOWN_SERVICE),
        }
    }

    /// The agents of the assignment that the target matches too.
    async fn controlled_agents(
        &self,
        row: &AssignmentRecord,
        target: Option<TargetSpec>,
    ) -> Result<Vec<AgentId>> {
        let target = target.map(Target::try_from).transpose()?;
        let tenant = self.store.tenant(row.tenant_id);
        let is_online = |id| self.hub.is_connected(id);
        let chosen = tenant.resolve(&target_of(row)?, is_online).await?;
        let ids: Vec<AgentId> = chosen.agents.iter().map(|facts| facts.id).collect();
        let Some(target) = target else { return Ok(ids) };
        // The chosen agents are known without the facts that this target names.
        let known = tenant.known_agents(ids, &target.fact_names(), is_online).await?;
        Ok(known.iter().filter(|facts| target.matches(facts)).map(|facts| facts.id).collect())
    }
}
