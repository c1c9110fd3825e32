//! A group as people see it: where its agents are.

use std::collections::BTreeSet;

use super::Groups;
use crate::domain::group::UpdateState;
use crate::domain::ids::AgentId;
use crate::services::error::Result;
use crate::store::entities::{agent_update, group};

/// Agents that a view shows of each kind.
const MAX_SHOWN: usize = 50;

/// A group and where its agents are.
#[derive(Debug, Clone)]
pub struct GroupNow {
    pub row: group::Model,
    pub agents: usize,
    /// Of the wanted version.
    pub there: usize,
    pub updating: usize,
    /// To be asked again later.
    pub pending: usize,
    pub failed: usize,
    /// Asked, and offline since.
    pub away: usize,
    /// The first 50 that failed, wait or are away.
    pub troubles: Vec<agent_update::Model>,
    /// The first 50 that it means and that belong to an older group.
    pub elsewhere: Vec<AgentId>,
}

impl Groups {
    /// Looks where its agents are.
    pub(super) async fn now(&self, row: group::Model) -> Result<GroupNow> {
        let tenant = self.store.tenant(row.tenant_id);
        let memberships =
            self.book.memberships(row.tenant_id, |id| self.hub.is_connected(id)).await?;
        let membership = memberships.get(&row.id).cloned().unwrap_or_default();
        let mut updates = tenant.group_updates(row.id).await?;
        let ids: BTreeSet<AgentId> = membership.members.iter().map(|facts| facts.id).collect();
        updates.retain(|update| update.wish == row.wish && ids.contains(&update.agent_id));
        let count = |state| updates.iter().filter(|update| update.state == state).count();
        let is_there =
            |version: &str| row.wanted_version.as_deref().is_some_and(|wanted| wanted == version);
        let mut now = GroupNow {
            agents: membership.members.len(),
            there: membership.members.iter().filter(|facts| is_there(&facts.version)).count(),
            updating: count(UpdateState::Updating),
            pending: count(UpdateState::Pending),
            failed: count(UpdateState::Failed),
            away: count(UpdateState::Away),
            troubles: Vec::new(),
            elsewhere: membership.elsewhere,
            row,
        };
        updates.retain(|update| !matches!(update.state, UpdateState::Updating | UpdateState::Done));
        updates.truncate(MAX_SHOWN);
        now.troubles = updates;
        now.elsewhere.truncate(MAX_SHOWN);
        Ok(now)
    }
}
