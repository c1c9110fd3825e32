//! Which group an agent belongs to: the oldest that means it; and what it wants of the agent.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::group::{GroupState, UpdateState};
use crate::domain::ids::{AgentId, GroupId, TenantId};
use crate::domain::target::facts::Facts;
use crate::domain::target::{Target, TargetSpec};
use crate::store::entities::group;
use crate::store::{Store, StoreError};

/// Who belongs where.
#[derive(Debug, Clone)]
pub(super) struct GroupBook {
    pub store: Store,
}

/// The agents of one group.
#[derive(Debug, Clone, Default)]
pub(super) struct Membership {
    /// Oldest first.
    pub members: Vec<Facts>,
    /// Agents that it means and that belong to an older group.
    pub elsewhere: Vec<AgentId>,
}

impl GroupBook {
    /// The group of an agent.
    pub async fn group_of(
        &self,
        tenant_id: TenantId,
        agent_id: AgentId,
    ) -> Result<Option<group::Model>, StoreError> {
        let tenant = self.store.tenant(tenant_id);
        let groups = tenant.all_groups().await?;
        if groups.is_empty() {
            return Ok(None);
        }
        let this = Target::Ids(BTreeSet::from([agent_id]));
        let chosen = tenant.resolve(&this, |_| true).await?;
        let Some(facts) = chosen.agents.first() else { return Ok(None) };
        let means = |row: &group::Model| target(row).is_some_and(|target| target.matches(facts));
        Ok(groups.into_iter().find(means))
    }

    /// The version that an agent is told of when it comes: the one that its group has brought it to
    /// already, if it is of another. Whose turn has not come, or who failed, is told of none; nor is
    /// anybody of a group that halted or was paused. So nobody overtakes a wave.
    pub async fn wanted_at_start(
        &self,
        tenant_id: TenantId,
        agent_id: AgentId,
        own_version: &str,
    ) -> Result<Option<String>, StoreError> {
        let tenant = self.store.tenant(tenant_id);
        let Some(update) = tenant.agent_update(agent_id).await? else { return Ok(None) };
        if update.state != UpdateState::Done {
            return Ok(None);
        }
        let group = self.group_of(tenant_id, agent_id).await?.filter(|group| {
            let is_its = group.id == update.group_id && group.wish == update.wish;
            is_its && group.state == GroupState::Active
        });
        let wanted = group.and_then(|group| group.wanted_version);
        Ok(wanted.filter(|wanted| wanted != own_version))
    }

    /// The agents of every group of a tenant.
    pub async fn memberships(
        &self,
        tenant_id: TenantId,
        is_online: impl Fn(AgentId) -> bool,
    ) -> Result<BTreeMap<GroupId, Membership>, StoreError> {
        let tenant = self.store.tenant(tenant_id);
        let mut taken = BTreeSet::new();
        let mut memberships = BTreeMap::new();
        for row in tenant.all_groups().await? {
            let mut membership = Membership::default();
            if let Some(target) = target(&row) {
                for facts in tenant.resolve(&target, &is_online).await?.agents {
                    match taken.insert(facts.id) {
                        true => membership.members.push(facts),
                        false => membership.elsewhere.push(facts.id),
                    }
                }
            }
            memberships.insert(row.id, membership);
        }
        Ok(memberships)
    }
}

/// It was read when it was stored.
fn target(row: &group::Model) -> Option<Target> {
    serde_json::from_str::<TargetSpec>(&row.target).ok()?.try_into().ok()
}
