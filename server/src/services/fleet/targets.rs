//! Previews which agents a target matches.

use std::sync::Arc;

use crate::domain::access::principal::Scope;
use crate::domain::fleet::target::facts::Facts;
use crate::domain::fleet::target::{Target, TargetSpec};
use crate::domain::ids::AgentId;
use crate::hub::Hub;
use crate::services::access::caller::Caller;
use crate::services::error::Result;
use crate::store::Store;

/// Longest list of agents in a preview.
const MAX_SHOWN: usize = 50;

/// Use cases of targets.
#[derive(Clone, Debug)]
pub struct Targets {
    pub(in crate::services) store: Store,
    pub(in crate::services) hub: Arc<Hub>,
}

/// The agents that a target matches now.
#[derive(Debug, Clone)]
pub struct TargetPreview {
    /// Matched agents.
    pub matched_count: usize,
    /// Matched agents that are connected.
    pub online_count: usize,
    /// The first 50 matched agents by name.
    pub agents: Vec<Facts>,
    /// Ids in the target that belong to no agent.
    pub unknown_ids: Vec<AgentId>,
}

impl Targets {
    /// Finds the agents that a target matches now.
    pub async fn preview(&self, caller: &Caller, spec: TargetSpec) -> Result<TargetPreview> {
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
        Ok(TargetPreview { matched_count, online_count, agents, unknown_ids })
    }
}
