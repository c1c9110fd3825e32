//! Which group an agent belongs to: the oldest whose target matches it.

use std::collections::HashMap;

use tokio::task::yield_now;

use crate::domain::fleet::agent::AgentLevel;
use crate::domain::fleet::target::facts::{FactNames, Facts};
use crate::domain::fleet::target::{Target, TargetSpec};
use crate::domain::ids::{AgentId, GroupId, TenantId};
use crate::domain::releases::group::{GroupState, UpdateState};
use crate::domain::time::Timestamp;
use crate::store::entities::releases::group;
use crate::store::{Store, StoreError};

/// Resolves the members of groups.
#[derive(Debug, Clone)]
pub(in crate::services) struct GroupMembership {
    pub store: Store,
}

/// An agent of a group.
#[derive(Debug, Clone)]
pub(in crate::services) struct GroupMember {
    pub facts: Facts,
    /// When its current or last session started.
    pub connected_at: Timestamp,
}

/// The agents of one group.
#[derive(Debug, Clone, Default)]
pub(in crate::services) struct Membership {
    /// Oldest first.
    pub members: Vec<GroupMember>,
    /// Agents that the target matches and that belong to an older group.
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
        let names = names_of(groups.iter().filter_map(target));
        let known = tenant.known_agents([agent_id], &names, |_| true).await?;
        let Some(facts) = known.first() else { return Ok(None) };
        let matches = |row: &group::Model| target(row).is_some_and(|target| target.matches(facts));
        Ok(groups.into_iter().find(matches))
    }

    /// The desired version for an agent that connects: the version that its group already updated it
    /// to, if it runs another one. `None` for an agent whose wave has not started or whose update
    /// failed, and in a paused or halted group, so that no agent updates before its wave.
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
        let desired = group.and_then(|group| group.desired_version);
        Ok(desired.filter(|desired| desired != own_version))
    }

    /// The agents of every group of a tenant, with one read of its agents.
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
        let names = names_of(targets.iter().map(|(_, target)| target.clone()));
        for member in self.all_agents(tenant_id, &names, is_online).await? {
            yield_now().await;
            let matches = |(_, target): &&(GroupId, Target)| target.matches(&member.facts);
            if let Some((id, _)) = targets.iter().find(matches) {
                members.entry(*id).or_default().push(member);
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
        let names = names_of(older.iter().cloned().chain([own.clone()]));
        for member in self.all_agents(row.tenant_id, &names, is_online).await? {
            yield_now().await;
            if !own.matches(&member.facts) {
                continue;
            }
            match older.iter().any(|target| target.matches(&member.facts)) {
                true => membership.claimed_by_other_group.push(member.facts.id),
                false => membership.members.push(member),
            }
        }
        Ok(membership)
    }

    /// Every agent that can belong to a group. Basic agents have no supervisor to install a release.
    async fn all_agents(
        &self,
        tenant_id: TenantId,
        names: &FactNames,
        is_online: impl Fn(AgentId) -> bool,
    ) -> Result<Vec<GroupMember>, StoreError> {
        let agents = self.store.tenant(tenant_id).all_agents(names, is_online).await?;
        let full = agents.into_iter().filter(|(facts, _)| facts.level == AgentLevel::Full);
        Ok(full.map(|(facts, connected_at)| GroupMember { facts, connected_at }).collect())
    }
}

/// The facts of hosts that targets name.
fn names_of(targets: impl Iterator<Item = Target>) -> FactNames {
    targets.flat_map(|target| target.fact_names()).collect()
}

/// The target of a group. It was validated before it was stored.
fn target(row: &group::Model) -> Option<Target> {
    serde_json::from_str::<TargetSpec>(&row.target).ok()?.try_into().ok()
}
