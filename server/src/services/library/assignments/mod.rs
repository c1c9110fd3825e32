//! Assignments: packages and scripts that are wanted on the agents of a target. [`wanted`] sends them to the agents,
//! [`services`] controls those that hosts keep running, [`rollouts`] brings them new versions in waves.

mod content;
mod hold;
mod request;
mod rollouts;
mod services;
mod wanted;

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Notify;

pub use self::hold::AssignmentHold;
pub use self::request::AssignmentRequest;
pub use self::rollouts::{AssignmentSnapshot, RolloutActivity, RolloutRequest};
pub use self::services::{ServiceControlRequest, ServiceOverview};
use crate::domain::access::principal::Scope;
use crate::domain::fleet::target::facts::Facts;
use crate::domain::fleet::target::{Target, TargetSpec};
use crate::domain::ids::{AgentId, AssignmentId};
use crate::domain::library::assignment_records::{AssignmentRecord, AssignmentStateRecord};
use crate::domain::library::assignment_rollout::FormerVersion;
use crate::domain::page::{Page, PageRequest};
use crate::domain::time::Clock;
use crate::hub::Hub;
use crate::services::access::caller::{Caller, Subject};
use crate::services::access::work_guard::{WorkGuard, require_unlimited};
use crate::services::error::{Result, ServiceError};
use crate::store::queries::{
    AssignmentLimits, CONTENT_GONE, ROLLOUT_UNDER_WAY, TOO_MANY_ASSIGNMENTS,
};
use crate::store::{Store, StoreError};

/// Most assignments of one tenant.
const MAX_ASSIGNMENTS: u64 = 100;
/// Most assignments with those that were deleted lately.
const MAX_STORED_ASSIGNMENTS: u64 = 1_000;
const LIMITS: AssignmentLimits =
    AssignmentLimits { count: MAX_ASSIGNMENTS, with_deleted: MAX_STORED_ASSIGNMENTS };
const UNKNOWN: ServiceError = ServiceError::NotFound("assignment");
const UNKNOWN_SERVICE: ServiceError = ServiceError::NotFound("service");

/// Use cases of assignments.
#[derive(Clone, Debug)]
pub struct Assignments {
    pub(in crate::services) store: Store,
    pub(in crate::services) hub: Arc<Hub>,
    pub(in crate::services) clock: Clock,
    pub(in crate::services) guard: WorkGuard,
    /// Assignments were changed.
    pub(in crate::services) changed: Arc<Notify>,
    /// A person has started, resumed or ended a rollout.
    pub(in crate::services) rollouts_changed: Arc<Notify>,
}

/// An agent that an assignment is for, with its last report.
#[derive(Debug, Clone)]
pub struct AssignedAgent {
    pub facts: Facts,
    /// The version that is wanted on it now; `None` until the first wave that reaches it.
    pub version: Option<String>,
    /// The wave of the rollout that has reached it, while one is under way.
    pub wave: Option<i32>,
    /// About that version.
    pub state: Option<AssignmentStateRecord>,
    /// Why the server does not send it the assignment.
    pub hold: Option<AssignmentHold>,
}

impl Assignments {
    /// Creates an assignment. Its agents get what it names when they are connected.
    ///
    /// # Errors
    /// 403; 422 names the field; 409 `assignment_exists`, `too_many_assignments` or
    /// `agent_count_unconfirmed`.
    pub async fn create(
        &self,
        caller: &Caller,
        request: AssignmentRequest,
    ) -> Result<AssignmentSnapshot> {
        require_change(caller)?;
        let now = self.clock.now();
        let row = self.new_record(caller, &request, now).await?;
        let rollout = request.rollout.as_ref().map(|rollout| rollout.begin(&row, None));
        let rollout = rollout.transpose()?;
        self.check_work(caller, &row, &request).await?;
        let audit = caller.audit("assignment.create", subject(row.id), &detail(&row), now);
        let tenant = self.store.tenant(row.tenant_id);
        let stored_row = row.clone().into();
        stored(tenant.create_assignment(stored_row, rollout.clone(), LIMITS, audit).await)?;
        self.announce_rollouts();
        Ok(AssignmentSnapshot { row, rollout })
    }

    /// One page of assignments, newest first.
    pub async fn list(
        &self,
        caller: &Caller,
        page: PageRequest,
    ) -> Result<Page<AssignmentSnapshot>> {
        caller.require(Scope::SchedulesRead)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let rows = tenant.assignments(page).await?;
        let mut rollouts = tenant.assignment_rollouts().await?;
        Ok(Page::of(rows, page, |row| row.id.0).map(|row| {
            let rollout = rollouts.remove(&row.id);
            AssignmentSnapshot { row: row.into(), rollout }
        }))
    }

    /// One assignment.
    pub async fn get(&self, caller: &Caller, id: AssignmentId) -> Result<AssignmentSnapshot> {
        caller.require(Scope::SchedulesRead)?;
        self.snapshot(caller, id).await
    }

    /// Changes the name, the target, or the version, which may reach the agents in waves. Of an assignment of another it needs the right to
    /// control the work of others; who changes more than the name becomes its maker, whose rights count from then on.
    ///
    /// # Errors
    /// As [`Assignments::create`]; 409 `assignment_changed`; 409 `rollout_under_way` for another version.
    pub async fn update(
        &self,
        caller: &Caller,
        id: AssignmentId,
        request: AssignmentRequest,
    ) -> Result<AssignmentSnapshot> {
        require_change(caller)?;
        let known = self.find(caller, id).await?;
        let was_changed_at = known.changed_at;
        let now = self.clock.now();
        caller.require_control(known.created_by)?;
        let former =
            FormerVersion { content_id: known.content_id, version: known.content_version.clone() };
        let mut row = self.changed_record(known, &request, now).await?;
        let rollout = match &request.rollout {
            Some(_) if row.content_id == former.content_id => {
                let problem = "needs another version";
                return Err(ServiceError::invalid_field("rollout", problem));
            }
            Some(rollout) => Some(rollout.begin(&row, Some(former))?),
            None => None,
        };
        if request.target.is_some() || request.script.is_some() {
            row.created_by = caller.principal.id;
        }
        self.check_work(caller, &row, &request).await?;
        let audit = caller.audit("assignment.update", subject(id), &detail(&row), now);
        let tenant = self.store.tenant(row.tenant_id);
        let changed = row.clone().into();
        if !stored(tenant.change_assignment(changed, rollout, was_changed_at, audit).await)? {
            return Err(ServiceError::Conflict {
                code: "assignment_changed",
                detail: "the assignment was changed at the same time; read it and try again".into(),
            });
        }
        self.announce_rollouts();
        self.snapshot(caller, id).await
    }

    /// Deletes an assignment. Hosts remove it; runs that they have started end.
    pub async fn delete(&self, caller: &Caller, id: AssignmentId) -> Result<()> {
        require_change(caller)?;
        caller.require_control(self.find(caller, id).await?.created_by)?;
        let audit = caller.audit("assignment.delete", subject(id), &json!({}), self.clock.now());
        match self.store.tenant(caller.principal.tenant_id).delete_assignment(id, audit).await? {
            true => {
                self.changed.notify_one();
                Ok(())
            }
            false => Err(UNKNOWN),
        }
    }

    /// One page of the agents that an assignment is for, with their last reports. Oldest first.
    pub async fn agents(
        &self,
        caller: &Caller,
        id: AssignmentId,
        page: PageRequest,
    ) -> Result<Page<AssignedAgent>> {
        caller.require(Scope::SchedulesRead)?;
        let row = self.find(caller, id).await?;
        let tenant = self.store.tenant(row.tenant_id);
        let chosen = tenant.resolve(&target_of(&row)?, |id| self.hub.is_connected(id)).await?;
        let holds = self.holds(&row, chosen.agents.iter(), chosen.agents.len()).await?;
        let after = page.after;
        let mut agents = chosen.agents;
        agents.retain(|facts| after.is_none_or(|after| facts.id.0 > after));
        agents.sort_unstable_by_key(|facts| facts.id);
        agents.truncate(usize::try_from(page.limit).unwrap_or(usize::MAX).saturating_add(1));
        let ids: Vec<AgentId> = agents.iter().map(|facts| facts.id).collect();
        let mut states = tenant.assignment_states(id, &ids).await?;
        let rollout = tenant.assignment_rollout(id).await?;
        let shares = match rollout {
            Some(_) => tenant.rollout_shares(id).await?,
            None => Vec::new(),
        };
        let waves: HashMap<AgentId, i32> =
            shares.into_iter().map(|share| (share.agent_id, share.wave)).collect();
        let with_state = |facts: Facts| {
            let state = states.remove(&facts.id);
            let wave = waves.get(&facts.id).copied();
            let version = match (&rollout, wave) {
                (Some(rollout), None) => rollout.former.as_ref().map(|it| it.version.clone()),
                _ => Some(row.content_version.clone()),
            };
            // What is reported about another version says nothing about this one.
            let state = state.filter(|state| version.as_ref() == Some(&state.version));
            let unreached = version.is_none().then_some(AssignmentHold::WaveNotStarted);
            let hold = holds.get(&facts.id).cloned().or(unreached);
            AssignedAgent { facts, version, wave, state, hold }
        };
        let agents: Vec<AssignedAgent> = agents.into_iter().map(with_state).collect();
        Ok(Page::of(agents, page, |agent| agent.facts.id.0))
    }

    async fn find(&self, caller: &Caller, id: AssignmentId) -> Result<AssignmentRecord> {
        let found = self.store.tenant(caller.principal.tenant_id).assignment(id).await?;
        found.ok_or(UNKNOWN)
    }
}

/// The target of a stored assignment.
fn target_of(row: &AssignmentRecord) -> Result<Target> {
    // It was checked before it was stored.
    let spec: TargetSpec = serde_json::from_str(&row.target).unwrap_or_default();
    Ok(Target::try_from(spec)?)
}

/// Agents join and leave the target later, so a key with limits can't assign.
fn require_change(caller: &Caller) -> Result<()> {
    caller.require(Scope::SchedulesWrite)?;
    caller.require(Scope::CommandsRun)?;
    require_unlimited(caller, "the agents of an assignment change later")
}

fn stored<T>(result: std::result::Result<T, StoreError>) -> Result<T> {
    result.map_err(|error| match error {
        StoreError::Refused(TOO_MANY_ASSIGNMENTS) => ServiceError::Conflict {
            code: "too_many_assignments",
            detail: format!("a tenant has at most {MAX_ASSIGNMENTS} assignments; delete one first"),
        },
        StoreError::Refused(CONTENT_GONE) => {
            ServiceError::invalid_field("script", "was deleted meanwhile")
        }
        StoreError::Refused(ROLLOUT_UNDER_WAY) => ServiceError::Conflict {
            code: "rollout_under_way",
            detail: "a version still reaches the agents of this assignment in waves; wait for the end, or finish or abort the rollout first".into(),
        },
        StoreError::Refused(_) => ServiceError::Conflict {
            code: "assignment_exists",
            detail: "an assignment has this name already".into(),
        },
        error => error.into(),
    })
}

fn subject(id: AssignmentId) -> Subject {
    Subject { kind: "assignment", id: id.0 }
}

fn detail(row: &AssignmentRecord) -> Value {
    let target: Value = serde_json::from_str(&row.target).unwrap_or_default();
    json!({"name": row.name, "script": row.reference(), "target": target})
}
