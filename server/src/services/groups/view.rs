//! A group as people see it: where its agents are.

use std::collections::HashMap;

use super::Groups;
use crate::domain::group::UpdateState;
use crate::domain::ids::AgentId;
use crate::services::error::Result;
use crate::services::group_book::Membership;
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
        let is_online = |id| self.hub.is_connected(id);
        let Membership { members, mut elsewhere } = self.book.membership(&row, is_online).await?;
        let mut updates = tenant.group_updates(row.id).await?;
        let wanted = row.wanted_version.as_deref();
        // Who is there is in no trouble, whatever was told before.
        let is_there: HashMap<AgentId, bool> = members
            .iter()
            .map(|member| (member.facts.id, wanted == Some(member.facts.version.as_str())))
            .collect();
        updates.retain(|update| match (is_there.get(&update.agent_id), update.state) {
            (None, _) | (Some(true), UpdateState::Pending | UpdateState::Failed) => false,
            _ => update.wish == row.wish,
        });
        let count = |state| updates.iter().filter(|update| update.state == state).count();
        let mut now = GroupNow {
            agents: members.len(),
            there: is_there.values().filter(|is_there| **is_there).count(),
            updating: count(UpdateState::Updating),
            pending: count(UpdateState::Pending),
            failed: count(UpdateState::Failed),
            away: count(UpdateState::Away),
            troubles: Vec::new(),
            elsewhere: Vec::new(),
            row,
        };
        updates.retain(|update| !matches!(update.state, UpdateState::Updating | UpdateState::Done));
        updates.truncate(MAX_SHOWN);
        elsewhere.truncate(MAX_SHOWN);
        (now.troubles, now.elsewhere) = (updates, elsewhere);
        Ok(now)
    }
}
