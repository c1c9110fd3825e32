//! A group as people see it: where its agents are.

use std::collections::HashMap;

use muster_protocol::release::Version;

use super::Groups;
use crate::domain::fleet::target::facts::Facts;
use crate::domain::ids::AgentId;
use crate::domain::releases::group::UpdateState;
use crate::services::error::Result;
use crate::services::fleet::group_membership::{GroupMember, Membership};
use crate::services::releases::catalog::{OpenRelease, platform_of};
use crate::store::StoreError;
use crate::store::entities::releases::{agent_update, group};

/// Agents that a view shows of each kind.
const MAX_SHOWN: usize = 50;

/// A group and where its agents are.
#[derive(Debug, Clone)]
pub struct GroupSnapshot {
    pub row: group::Model,
    pub agents: usize,
    /// Of the wanted version.
    pub there: usize,
    pub updating: usize,
    /// To be asked again later.
    pub pending: usize,
    pub failed: usize,
    /// Asked, and offline since.
    pub unreachable: usize,
    /// Of a platform for which the wanted version has nothing: they are not asked.
    pub unfit: usize,
    /// The first 50 that failed, wait or are away.
    pub problems: Vec<agent_update::Model>,
    /// The first 50 that it means and that belong to an older group.
    pub claimed_by_other_group: Vec<AgentId>,
}

impl Groups {
    /// The release that a group wants, if it can be had.
    pub(super) async fn desired_release(
        &self,
        wanted: &str,
    ) -> std::result::Result<Option<OpenRelease>, StoreError> {
        match wanted.parse::<Version>() {
            Ok(version) => self.catalog.find(&version).await,
            // It was read when it was stored.
            Err(_) => Ok(None),
        }
    }

    /// Looks where its agents are.
    pub(super) async fn now(&self, row: group::Model) -> Result<GroupSnapshot> {
        let tenant = self.store.tenant(row.tenant_id);
        let is_online = |id| self.hub.is_connected(id);
        let Membership { members, mut claimed_by_other_group } =
            self.book.membership(&row, is_online).await?;
        let release = match &row.desired_version {
            Some(wanted) => self.desired_release(wanted).await?,
            None => None,
        };
        let is_unfit = |member: &&GroupMember| !is_fit(&member.facts, release.as_ref());
        let mut updates = tenant.group_updates(row.id).await?;
        let wanted = row.desired_version.as_deref();
        // Who is there is in no trouble, whatever was told before.
        let is_there: HashMap<AgentId, bool> = members
            .iter()
            .map(|member| (member.facts.id, wanted == Some(member.facts.version.as_str())))
            .collect();
        updates.retain(|update| match (is_there.get(&update.agent_id), update.state) {
            (None, _) | (Some(true), UpdateState::Pending | UpdateState::Failed) => false,
            _ => update.generation == row.generation,
        });
        let count = |state| updates.iter().filter(|update| update.state == state).count();
        let mut now = GroupSnapshot {
            agents: members.len(),
            there: is_there.values().filter(|is_there| **is_there).count(),
            updating: count(UpdateState::Updating),
            pending: count(UpdateState::Pending),
            failed: count(UpdateState::Failed),
            unreachable: count(UpdateState::Unreachable),
            unfit: members.iter().filter(is_unfit).count(),
            problems: Vec::new(),
            claimed_by_other_group: Vec::new(),
            row,
        };
        updates.retain(|update| !matches!(update.state, UpdateState::Updating | UpdateState::Done));
        updates.truncate(MAX_SHOWN);
        claimed_by_other_group.truncate(MAX_SHOWN);
        (now.problems, now.claimed_by_other_group) = (updates, claimed_by_other_group);
        Ok(now)
    }
}

/// True if a release has programs for an agent, or may have.
pub(super) fn is_fit(facts: &Facts, release: Option<&OpenRelease>) -> bool {
    release.is_none_or(|release| release.is_for(platform_of(&facts.os, &facts.arch)))
}
