//! Use cases of the facts that hosts report.

use std::collections::HashMap;

use muster_protocol::facts::is_fact_name;

use super::agents::Agents;
use crate::domain::access::principal::Scope;
use crate::domain::fleet::records::FactReportRecord;
use crate::domain::fleet::target::facts::{FactNames, HostFacts};
use crate::domain::ids::AgentId;
use crate::services::access::caller::Caller;
use crate::services::error::{Result, ServiceError};

/// Most names of facts in one answer.
const MAX_LISTED_NAMES: u64 = 500;
/// Most facts that a list of agents shows.
pub const MAX_SHOWN_FACTS: usize = 16;

impl Agents {
    /// The facts that an agent's host reported last; `None` if it never has.
    pub async fn facts(&self, caller: &Caller, id: AgentId) -> Result<Option<FactReportRecord>> {
        caller.require(Scope::AgentsRead)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        tenant.agent(id).await?.ok_or(ServiceError::NotFound("agent"))?;
        Ok(tenant.agent_facts(id).await?)
    }

    /// Names of facts that hosts report, the most common first, with the number of agents.
    pub async fn fact_names(&self, caller: &Caller) -> Result<Vec<(String, i64)>> {
        caller.require(Scope::AgentsRead)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        Ok(tenant.fact_names(MAX_LISTED_NAMES).await?)
    }

    /// The facts of some agents, for a list that shows them. `names`: separated by commas.
    ///
    /// # Errors
    /// 422 for other text than 1 to 16 names.
    pub async fn facts_of(
        &self,
        caller: &Caller,
        agents: &[AgentId],
        names: &str,
    ) -> Result<HashMap<AgentId, HostFacts>> {
        caller.require(Scope::AgentsRead)?;
        let listed = || names.split(',');
        if listed().count() > MAX_SHOWN_FACTS || !listed().all(is_fact_name) {
            let problem = "must be 1 to 16 names of facts, separated by commas";
            return Err(ServiceError::invalid_field("facts", problem));
        }
        let names: FactNames = listed().map(str::to_owned).collect();
        let tenant = self.store.tenant(caller.principal.tenant_id);
        Ok(tenant.host_facts(&names, Some(agents)).await?)
    }
}
