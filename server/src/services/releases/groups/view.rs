//! The state of a group and its agents, for the API.

use std::collections::HashMap;

use muster_protocol::release::Version;

use super::Groups;
use super::reconciliation::planned_member;
use super::update_attempts::Updates;
use crate::domain::fleet::target::facts::Facts;
use crate::domain::ids::AgentId;
use crate::domain::releases::group::UpdateState;
use crate::domain::releases::group::cohort::{CohortSnapshot, CohortState, cohorts};
use crate::domain::releases::records::{AgentUpdateRecord, GroupRecord};
use crate::services::error::Result;
use crate::services::fleet::group_membership::{GroupMember, Membership};
use crate::services::releases::catalog::{OpenRelease, platform_of};
use crate::store::StoreError;
use crate::store::entities::releases::{agent_update, group};

/// Longest list of agents in a snapshot.
const MAX_SHOWN: usize = 50;

/// A group and the state of its agents.
#[derive(Debug, Clone)]
pub struct GroupSnapshot {
    pub row: GroupRecord,
    pub agents: usize,
    /// Agents that run the desired version.
    pub up_to_date: usize,
    pub updating: usize,
    /// Agents that are tried again later.
    pub pending: usize,
    pub failed: usize,
    /// Agents that went offline after the update was requested.
    pub unreachable: usize,
    /// Agents on a platform that the desired release has no programs for.
    pub incompatible: usize,
    /// Of the agents that were updated or need it.
    pub cohorts: Vec<CohortRecord>,
    /// The first 50 agents that are pending, failed or unreachable.
    pub problems: Vec<AgentUpdateRecord>,
    /// The first 50 agents that the target matches and that belong to an older group.
    pub claimed_by_other_group: Vec<AgentId>,
}

/// A cohort of the agents of a group.
#[derive(Debug, Clone)]
pub struct CohortRecord {
    pub snapshot: CohortSnapshot,
    pub canary_name: Option<String>,
    /// Why the canary counts by its registration alone.
    pub note: Option<String>,
}

impl Groups {
    /// The published release of a version, if there is one.
    pub(super) async fn desired_release(
        &self,
        version: &str,
    ) -> std::result::Result<Option<OpenRelease>, StoreError> {
        match version.parse::<Version>() {
            Ok(version) => self.catalog.find(&version).await,
            // The version was validated before it was stored.
            Err(_) => Ok(None),
        }
    }

    /// Reads the state of the agents.
    pub(super) async fn snapshot(&self, row: group::Model) -> Result<GroupSnapshot> {
        let tenant = self.store.tenant(row.tenant_id);
        let is_online = |id| self.hub.is_connected(id);
        let Membership { members, mut claimed_by_other_group } =
            self.membership.membership(&row, is_online).await?;
        let release = match &row.desired_version {
            Some(version) => self.desired_release(version).await?,
            None => None,
        };
        let is_incompatible =
            |member: &&GroupMember| !is_compatible(&member.facts, release.as_ref());
        let mut updates = tenant.group_updates(row.id).await?;
        let desired = row.desired_version.as_deref();
        // An agent that runs the desired version has no problem, even if it reported one before.
        let is_up_to_date: HashMap<AgentId, bool> = members
            .iter()
            .map(|member| (member.facts.id, desired == Some(member.facts.version.as_str())))
            .collect();
        updates.retain(|update| match (is_up_to_date.get(&update.agent_id), update.state) {
            (None, _) => false,
            // A canary that runs the version may still have failed its no-op execution.
            (Some(true), UpdateState::Pending | UpdateState::Failed)
                if update.probe_command_id.is_none() =>
            {
                false
            }
            _ => update.generation == row.generation,
        });
        let count = |state| updates.iter().filter(|update| update.state == state).count();
        let mut snapshot = GroupSnapshot {
            agents: members.len(),
            up_to_date: is_up_to_date.values().filter(|is| **is).count(),
            updating: count(UpdateState::Updating),
            pending: count(UpdateState::Pending),
            failed: count(UpdateState::Failed),
            unreachable: count(UpdateState::Unreachable),
            incompatible: members.iter().filter(is_incompatible).count(),
            cohorts: cohort_records(&row, &members, release.as_ref(), &updates),
            problems: Vec::new(),
            claimed_by_other_group: Vec::new(),
            row: row.into(),
        };
        updates.retain(|update| !matches!(update.state, UpdateState::Updating | UpdateState::Done));
        updates.truncate(MAX_SHOWN);
        claimed_by_other_group.truncate(MAX_SHOWN);
        snapshot.problems = updates.into_iter().map(AgentUpdateRecord::from).collect();
        snapshot.claimed_by_other_group = claimed_by_other_group;
        Ok(snapshot)
    }
}

/// The cohorts of the members that can be updated; none without a desired version.
fn cohort_records(
    row: &group::Model,
    members: &[GroupMember],
    release: Option<&OpenRelease>,
    updates: &[agent_update::Model],
) -> Vec<CohortRecord> {
    let Some(version) = &row.desired_version else { return Vec::new() };
    let updates: Updates = updates.iter().map(|update| (update.agent_id, update.clone())).collect();
    let compatible = members.iter().filter(|member| is_compatible(&member.facts, release));
    let planned: Vec<_> =
        compatible.map(|member| planned_member(member, version, &updates)).collect();
    let message = |id| updates.get(&id).and_then(|update| update.message.clone());
    let record = |snapshot: CohortSnapshot| {
        let name_of = |id| members.iter().find(|member| member.facts.id == id);
        let canary_name = snapshot.canary.and_then(name_of).map(|member| member.facts.name.clone());
        let is_proven = snapshot.state == CohortState::Proven;
        let note = snapshot.canary.filter(|_| is_proven).and_then(message);
        CohortRecord { snapshot, canary_name, note }
    };
    cohorts(&planned, message).into_iter().map(record).collect()
}

/// True if the release has programs for an agent's platform, or the platform is unknown.
pub(super) fn is_compatible(facts: &Facts, release: Option<&OpenRelease>) -> bool {
    release.is_none_or(|release| release.is_for(platform_of(&facts.os, &facts.arch)))
}
