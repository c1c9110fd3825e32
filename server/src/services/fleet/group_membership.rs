//! Which group an agent belongs to: the oldest that means it; and what it wants of the agent.

use std::collections::{BTreeSet, HashMap};

use tokio::task::yield_now;

use crate::domain::fleet::agent::AgentLevel;
use crate::domain::fleet::target::facts::Facts;
use crate::domain::fleet::target::{Target, TargetSpec};
use crate::domain::ids::{AgentId, GroupId, TenantId};
use crate::domain::releases::group::{GroupState, UpdateState};
use crate::domain::time::Timestamp;
use crate::store::entities::releases::group;
use crate::store::{Store, StoreError};

/// Who belongs where.
#[derive(Debug, Clone)]
pub(in crate::services) struct GroupMembership {
    pub store: Store,
}

/// An agent of a group.
#[derive(Debug, Clone)]
pub(in crate::services) struct GroupMember {
    pub facts: Facts,
    /// Connected since then, or the last time.
    pub connected_at: Timestamp,
}

/// The agents of one group.
#[derive(Debug, Clone, Default)]
pub(in crate::services) struct Membership {
    /// Oldest first.
    pub members: Vec<GroupMember>,
    /// Agents that it means and that belong to an older group.
    pub claimed_by_other_group: Vec<AgentId>,
}

impl GroupMembership {
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
    pub async fn desired_version_at_start(
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
            let is_its = group.id == update.group_id && group.generation == update.generation;
            is_its && group.state == GroupState::Active
        });
        let wanted = group.and_then(|group| group.desired_version);
        Ok(wanted.filter(|wanted| wanted != own_version))
    }

    /// The agents of every group of a tenant, which are read once.
    pub async fn members(
        &self,
        tenant_id: TenantId,
        is_online: impl Fn(AgentId) -> bool,
    ) -> Result<HashMap<GroupId, Vec<GroupMember>>, StoreError> {
        let tenant = self.store.tenant(tenant_id);
        let groups = tenant.all_groups().await?;
        let targets: Vec<_> =
            groups.iter().filter_map(|row| Some((row.id, target(row)?))).collect();
        let mut members: HashMap<GroupId, Vec<GroupMember>> = HashMap::new();
        for belonging in self.everyone(tenant_id, is_online).await? {
            yield_now().await;
            let means = |(_, target): &&(GroupId, Target)| target.matches(&belonging.facts);
            if let Some((id, _)) = targets.iter().find(means) {
                members.entry(*id).or_default().push(belonging);
            }
        }
        Ok(members)
    }

    /// The agents of one group.
    pub async fn membership(
        &self,
        row: &group::Model,
        is_online: impl Fn(AgentId) -> bool,
    ) -> Result<Membership, StoreError> {
        let mut membership = Membership::default();
        let Some(own) = target(row) else { return Ok(membership) };
        let groups = self.store.tenant(row.tenant_id).all_groups().await?;
        let older: Vec<_> =
            groups.iter().take_while(|other| other.id != row.id).filter_map(target).collect();
        for belonging in self.everyone(row.tenant_id, is_online).await? {
            yield_now().await;
            if !own.matches(&belonging.facts) {
                continue;
            }
            match older.iter().any(|target| target.matches(&belonging.facts)) {
                true => membership.claimed_by_other_group.push(belonging.facts.id),
                false => membership.members.push(belonging),
            }
        }
        Ok(membership)
    }

    /// Every agent that can have a group: others have no supervisor that could install a release.
    async fn everyone(
        &self,
        tenant_id: TenantId,
        is_online: impl Fn(AgentId) -> bool,
    ) -> Result<Vec<GroupMember>, StoreError> {
        let everyone = self.store.tenant(tenant_id).everyone(is_online).await?;
        let full = everyone.into_iter().filter(|(facts, _)| facts.level == AgentLevel::Full);
        Ok(full.map(|(facts, connected_at)| GroupMember { facts, connected_at }).collect())
    }
}

/// It was read when it was stored.
fn target(row: &group::Model) -> Option<Target> {
    serde_json::from_str::<TargetSpec>(&row.target).ok()?.try_into().ok()
}
