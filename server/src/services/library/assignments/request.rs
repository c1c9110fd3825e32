//! Reads and checks what an assignment is to be.

use muster_protocol::package::{MAX_TASK_INTERVAL_MS, MIN_TASK_INTERVAL_MS, TaskSchedule};
use muster_protocol::parameter::Parameters;
use muster_protocol::schedule::TaskTimes;
use serde_json::json;

use super::{Assignments, RolloutRequest, target_of};
use crate::domain::commands::ladder::Confirmation;
use crate::domain::commands::work::WorkKind;
use crate::domain::fleet::target::{Target, TargetSpec};
use crate::domain::ids::{AgentId, AssignmentId};
use crate::domain::library::assignment_records::{AssignedKind, AssignmentRecord};
use crate::domain::name::check_name;
use crate::domain::time::Timestamp;
use crate::services::access::caller::Caller;
use crate::services::access::work_guard::Clearance;
use crate::services::error::{Result, ServiceError};

/// An assignment, or changes to one. `None` keeps the value.
#[derive(Debug, Clone, Default)]
pub struct AssignmentRequest {
    pub name: Option<String>,
    /// `package:NAME@VERSION` or `library:NAME@VERSION`; without a version the newest of a package, or the current one
    /// of a script.
    pub script: Option<String>,
    pub target: Option<TargetSpec>,
    /// Only of a new assignment.
    pub parameters: Parameters,
    /// When a script is due; only of a new assignment.
    pub schedule: Option<TaskSchedule>,
    /// How the version reaches the agents; all at once if absent.
    pub rollout: Option<RolloutRequest>,
    /// The number of agents that the caller expects.
    pub confirmation: Option<Confirmation>,
}

impl Assignments {
    pub(super) async fn new_record(
        &self,
        caller: &Caller,
        request: &AssignmentRequest,
        now: Timestamp,
    ) -> Result<AssignmentRecord> {
        let name = request.name.clone().ok_or_else(|| ServiceError::required("name"))?;
        let script = request.script.as_deref();
        let script = script.ok_or_else(|| ServiceError::required("script"))?;
        let spec = request.target.clone().ok_or_else(|| ServiceError::required("target"))?;
        check_name(&name).map_err(|problem| ServiceError::invalid_field("name", problem))?;
        Target::try_from(spec.clone())?;
        let tenant_id = caller.principal.tenant_id;
        let found = self.content(tenant_id, script, &request.parameters).await?;
        let schedule = checked_schedule(found.kind, request.schedule.as_ref())?;
        Ok(AssignmentRecord {
            id: AssignmentId::new(),
            tenant_id,
            name,
            content_id: found.id,
            content_name: found.name,
            content_version: found.version,
            kind: found.kind,
            schedule,
            target: json!(spec).to_string(),
            parameters: json!(request.parameters).to_string(),
            created_by: caller.principal.id,
            created_at: now,
            changed_at: now,
            deleted_at: None,
        })
    }

    pub(super) async fn changed_record(
        &self,
        mut row: AssignmentRecord,
        request: &AssignmentRequest,
        now: Timestamp,
    ) -> Result<AssignmentRecord> {
        if let Some(name) = &request.name {
            check_name(name).map_err(|problem| ServiceError::invalid_field("name", problem))?;
            row.name.clone_from(name);
        }
        if let Some(spec) = &request.target {
            Target::try_from(spec.clone())?;
            row.target = json!(spec).to_string();
        }
        if let Some(script) = &request.script {
            let invalid = |problem| ServiceError::invalid_field("script", problem);
            if script.split('@').next() != Some(row.script().as_str()) {
                let problem =
                    "must be another version of what is assigned; create another assignment";
                return Err(invalid(problem));
            }
            let found = self.content(row.tenant_id, script, &row.parameters()).await?;
            if found.kind != row.kind {
                return Err(invalid("must be of the same kind; create another assignment"));
            }
            row.content_id = found.id;
            row.content_version = found.version;
        }
        row.changed_at = now.max(row.changed_at.plus_ms(1));
        Ok(row)
    }

    /// Checks what the runs of an assignment may do. Agents join its target later, so no rule may ask for an
    /// approval of this work on any agent.
    ///
    /// # Errors
    /// 403 `approval_needed` or `refused_by_ladder`; 409 `agent_count_unconfirmed`.
    pub(super) async fn check_work(
        &self,
        caller: &Caller,
        row: &AssignmentRecord,
        request: &AssignmentRequest,
    ) -> Result<()> {
        let script = row.script();
        let kind = WorkKind::Script(&script);
        if let Some(rule) = self.guard.rules_about(caller, kind).await?.first() {
            return Err(approval_needed(&format!("the rule `{}`", rule.name)));
        }
        let tenant = self.store.tenant(row.tenant_id);
        let chosen = tenant.resolve(&target_of(row)?, |id| self.hub.is_connected(id)).await?;
        let agents: Vec<AgentId> = chosen.agents.iter().map(|facts| facts.id).collect();
        match self.guard.check(caller, kind, &agents, request.confirmation).await? {
            Clearance::Free => Ok(()),
            Clearance::NeedsApproval(_) => Err(approval_needed("the ladder of this tenant")),
        }
    }
}

/// A script needs a schedule, and a package has its own one.
fn checked_schedule(kind: AssignedKind, schedule: Option<&TaskSchedule>) -> Result<Option<String>> {
    match (kind, schedule) {
        (AssignedKind::Script, None) => Err(ServiceError::required("schedule")),
        (AssignedKind::Script, Some(schedule)) => {
            let bounds = MIN_TASK_INTERVAL_MS..=MAX_TASK_INTERVAL_MS;
            if let Some(every_ms) = schedule.every_ms.filter(|ms| !bounds.contains(ms)) {
                return Err(ServiceError::out_of_range("schedule.every_ms", every_ms, bounds));
            }
            TaskTimes::of(schedule)
                .map_err(|(field, problem)| ServiceError::invalid_field(&field, &problem))?;
            Ok(Some(json!(schedule).to_string()))
        }
        (AssignedKind::Task | AssignedKind::Service, Some(_)) => {
            let problem = "must not be given with a package: its muster.toml says when it runs";
            Err(ServiceError::invalid_field("schedule", problem))
        }
        (AssignedKind::Task | AssignedKind::Service, None) => Ok(None),
    }
}

pub(super) fn approval_needed(rule: &str) -> ServiceError {
    ServiceError::Forbidden {
        code: "approval_needed",
        detail: format!(
            "{rule} asks for an approval of this work, and an assignment can't wait for it; run it as a job, or ask an owner to change the rule"
        ),
    }
}
