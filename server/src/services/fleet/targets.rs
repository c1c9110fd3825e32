//! Who a target means, before anything is done with it.

use std::sync::Arc;

use crate::domain::access::principal::Scope;
use crate::domain::fleet::target::facts::Facts;
use crate::domain::fleet::target::{Target, TargetSpec};
use crate::domain::ids::AgentId;
use crate::hub::Hub;
use crate::services::access::caller::Caller;
use crate::services::error::Result;
use crate::store::Store;

/// Agents that a preview shows at the most.
const MAX_SHOWN: usize = 50;

/// Use cases of targets.
#[derive(Clone, Debug)]
pub struct Targets {
    pub(in crate::services) store: Store,
    pub(in crate::services) hub: Arc<Hub>,
}

/// Who is meant at this moment.
#[derive(Debug, Clone)]
pub struct Preview {
    /// Agents that are meant.
    pub matched_count: usize,
    /// Of these, agents that are connected.
    pub online_count: usize,
    /// The first 50 of them by name.
    pub agents: Vec<Facts>,
    /// Ids that the target names and that no agent has.
    pub unknown_ids: Vec<AgentId>,
}

impl Targets {
    /// Says who a target means now, and who of them is connected.
    pub async fn preview(&self, caller: &Caller, spec: TargetSpec) -> Result<Preview> {
        caller.require(Scope::AgentsRead)?;
        let target = Target::try_from(spec)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let chosen = tenant.resolve(&target, |id| self.hub.is_connected(id)).await?;
        let mut agents = chosen.agents;
        let matched_count = agents.len();
        let online_count = agents.iter().filter(|agent| agent.is_online).count();
        agents.sort_unstable_by(|one, two| (&one.name, one.id).cmp(&(&two.name, two.id)));
        agents.truncate(MAX_SHOWN);
        let unknown_ids = chosen.unknown_ids.into_iter().collect();
        Ok(Preview { matched_count, online_count, agents, unknown_ids })
    }
}
