//! Executions: `execute` commands with the data that people see beside them.

use std::collections::{BTreeSet, HashMap};

use super::Commands;
use super::approvals::of_work::add_approvals;
use crate::domain::access::principal::Scope;
use crate::domain::commands::command_state::CommandState;
use crate::domain::field_error::{FieldError, FieldErrorCode};
use crate::domain::fleet::target::{Target, TargetSpec};
use crate::domain::ids::{AgentId, CommandId, JobId};
use crate::domain::page::{Page, PageRequest};
use crate::domain::time::Timestamp;
use crate::services::access::caller::Caller;
use crate::services::error::{Result, ServiceError};
use crate::store::entities::column::StringList;
use crate::store::queries::{
    AgentLock, CommandFilter, CommandWithReport, MAX_FILTER_AGENTS, TenantScope,
};

const UNKNOWN: ServiceError = ServiceError::NotFound("execution");

/// An execution with related data.
#[derive(Debug, Clone)]
pub struct Execution {
    pub found: CommandWithReport,
    /// Current name of its agent.
    pub agent_name: Option<String>,
    /// The name of who requested it, if the tenant still has it.
    pub requested_by_name: Option<String>,
    /// Since when its agent is offline; `None` while it is connected.
    pub agent_offline_since: Option<Timestamp>,
    /// Names of the secret parameters of its job.
    pub secret_names: Option<Vec<String>>,
    /// The execution that holds the lock that this one waits for.
    pub lock_holder: Option<CommandId>,
}

impl Commands {
    /// One page of executions, newest first. A page may be short although more follow.
    pub async fn executions(
        &self,
        caller: &Caller,
        filter: CommandFilter,
        page: PageRequest,
    ) -> Result<Page<Execution>> {
        caller.require(Scope::CommandsRead)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let filter = CommandFilter { is_execution: true, ..filter };
        let Page { mut items, next_cursor } = tenant.commands(&filter, page).await?;
        add_approvals(&tenant, &mut items).await?;
        Ok(Page { items: self.with_related(&tenant, items).await?, next_cursor })
    }

    /// [`Self::executions`] on the agents that a target expression matches now.
    ///
    /// # Errors
    /// 422 for an invalid expression, or one that matches too many agents.
    pub async fn executions_on(
        &self,
        caller: &Caller,
        expression: String,
        mut filter: CommandFilter,
        page: PageRequest,
    ) -> Result<Page<Execution>> {
        caller.require(Scope::CommandsRead)?;
        // What the expression matches says what the agents are.
        caller.require(Scope::AgentsRead)?;
        let spec = TargetSpec { expression: Some(expression), ..TargetSpec::default() };
        let target = Target::try_from(spec)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let chosen = tenant.resolve(&target, |id| self.hub.is_connected(id)).await?;
        let agents: Vec<AgentId> = chosen.agents.iter().map(|agent| agent.id).collect();
        match agents.as_slice() {
            [] => return Ok(Page { items: Vec::new(), next_cursor: None }),
            [one] if filter.agent_id.is_none() => filter.agent_id = Some(*one),
            _ if agents.len() > MAX_FILTER_AGENTS => {
                let (limit, code) = (MAX_FILTER_AGENTS as u64, FieldErrorCode::TooMany);
                return Err(ServiceError::InvalidField {
                    detail: format!(
                        "`expression` matches {} agents; at most {limit} are possible",
                        agents.len()
                    ),
                    error: FieldError::with_limit("expression", code, limit),
                });
            }
            _ => filter.agents = Some(agents),
        }
        self.executions(caller, filter, page).await
    }

    /// One page of the executions of a job.
    ///
    /// # Errors
    /// 404 if the job does not exist.
    pub async fn executions_of_job(
        &self,
        caller: &Caller,
        id: JobId,
        filter: CommandFilter,
        page: PageRequest,
    ) -> Result<Page<Execution>> {
        caller.require(Scope::CommandsRead)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        tenant.job(id).await?.ok_or(ServiceError::NotFound("job"))?;
        self.executions(caller, CommandFilter { job_id: Some(id), ..filter }, page).await
    }

    /// One execution. Waits up to `wait_ms` for its end.
    ///
    /// # Errors
    /// 404, also for a command that is no `execute`.
    pub async fn execution(
        &self,
        caller: &Caller,
        id: CommandId,
        wait_ms: u64,
    ) -> Result<Execution> {
        caller.require(Scope::CommandsRead)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        check_is_execution(&tenant, id).await?;
        let found = self.get(caller, id, wait_ms).await?;
        self.with_related(&tenant, vec![found]).await?.pop().ok_or(UNKNOWN)
    }

    /// Requests the cancellation of an execution, as [`Self::cancel`] does.
    ///
    /// # Errors
    /// 403 as [`Self::cancel`]; 404, also for a command that is no `execute`; 409
    /// `cancel_unsupported`.
    pub async fn cancel_execution(&self, caller: &Caller, id: CommandId) -> Result<Execution> {
        caller.require_own_control()?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        check_is_execution(&tenant, id).await?;
        let found = self.cancel(caller, id).await?;
        self.with_related(&tenant, vec![found]).await?.pop().ok_or(UNKNOWN)
    }

    async fn with_related(
        &self,
        tenant: &TenantScope,
        found: Vec<CommandWithReport>,
    ) -> Result<Vec<Execution>> {
        let agents: BTreeSet<AgentId> = found.iter().map(|found| found.command.agent_id).collect();
        let jobs: BTreeSet<JobId> = found.iter().filter_map(|found| found.command.job_id).collect();
        let known = match agents.is_empty() {
            true => HashMap::new(),
            false => tenant.agents_last_seen(agents.into_iter().collect()).await?,
        };
        let secrets = match jobs.is_empty() {
            true => HashMap::new(),
            false => tenant.secret_names(jobs.into_iter().collect()).await?,
        };
        let holders = lock_holders(tenant, &found).await?;
        let people = found.iter().map(|found| found.command.requested_by).collect();
        let people = tenant.principal_names(people).await?;
        let complete = |found: CommandWithReport| Execution {
            lock_holder: lock_of(&found).and_then(|lock| holders.get(&lock)).copied(),
            agent_name: known.get(&found.command.agent_id).map(|agent| agent.0.clone()),
            requested_by_name: people.get(&found.command.requested_by).cloned(),
            agent_offline_since: known
                .get(&found.command.agent_id)
                .and_then(|agent| self.presence.offline_since(found.command.agent_id, agent.1)),
            secret_names: found
                .command
                .job_id
                .and_then(|id| secrets.get(&id))
                .map(|StringList(names)| names.clone()),
            found,
        };
        Ok(found.into_iter().map(complete).collect())
    }
}

/// Which executions hold the locks that some of these wait for.
async fn lock_holders(
    tenant: &TenantScope,
    found: &[CommandWithReport],
) -> Result<HashMap<AgentLock, CommandId>> {
    let agents: BTreeSet<AgentId> = found.iter().filter_map(lock_of).map(|lock| lock.0).collect();
    match agents.is_empty() {
        true => Ok(HashMap::new()),
        false => Ok(tenant.lock_holders(agents.into_iter().collect()).await?),
    }
}

/// The lock that a queued execution waits for.
fn lock_of(found: &CommandWithReport) -> Option<AgentLock> {
    let row = &found.command;
    let lock = row.lock.clone().filter(|_| row.state == CommandState::Queued)?;
    Some((row.agent_id, lock))
}

/// The kind of a command never changes, so one check is enough.
async fn check_is_execution(tenant: &TenantScope, id: CommandId) -> Result<()> {
    match tenant.command(id).await? {
        Some(found) if found.command.script.is_some() => Ok(()),
        _ => Err(UNKNOWN),
    }
}
