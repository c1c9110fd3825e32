//! How the wish of a group is carried out: turn by turn, each decided anew from what is stored, so that
//! the server may end at any moment.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use muster_protocol::release::{CAPABILITY, Version};
use serde_json::json;
use tokio::time::timeout;

use super::judging::unable;
use super::{Groups, pace};
use crate::domain::agent_level::AgentLevel;
use crate::domain::group::{GroupState, Member, Next, Progress, UpdateState, next};
use crate::domain::ids::{AgentId, AuditId, CommandId};
use crate::domain::time::Timestamp;
use crate::services::error::chain;
use crate::services::group_book::Membership;
use crate::store::StoreError;
use crate::store::entities::column::ActorKind;
use crate::store::entities::{agent_update, audit_entry, group};

/// Between two turns while something is under way.
const SOON: Duration = Duration::from_millis(500);
/// Between two turns while nothing is.
const SLOWLY: Duration = Duration::from_secs(30);

/// How a turn has left things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Something is under way.
    Busy,
    /// There is nothing to do before something changes.
    Quiet,
}

impl Groups {
    /// Waits until another turn makes sense after one that has left things so, and took so long: at most
    /// a tenth of the time goes into looking at large fleets.
    pub async fn wait(&self, after: Turn, took: Duration) {
        let mut arrivals = self.hub.arrivals();
        let pause = match after {
            Turn::Busy => SOON.max(took.saturating_mul(9)),
            Turn::Quiet => SLOWLY,
        };
        let change = async {
            tokio::select! {
                () = self.changed.notified() => {}
                // Whoever comes may have to be of another version.
                _ = arrivals.changed(), if after == Turn::Quiet => tokio::time::sleep(SOON).await,
            }
        };
        // Either is a reason for another turn.
        let _ = timeout(pause, change).await;
    }

    /// Does what is next for every group.
    ///
    /// # Errors
    /// [`StoreError`]; the next turn tries again.
    pub async fn take_turn(&self) -> Result<Turn, StoreError> {
        let mut turn = Turn::Quiet;
        let mut known = HashMap::new();
        for row in self.store.system().wishing_groups().await? {
            if row.state != GroupState::Active {
                if self.hear(&row).await? == Turn::Busy {
                    turn = Turn::Busy;
                }
                continue;
            }
            let tenant_id = row.tenant_id;
            if let std::collections::hash_map::Entry::Vacant(entry) = known.entry(tenant_id) {
                let is_online = |id| self.hub.is_connected(id);
                entry.insert(self.book.memberships(tenant_id, is_online).await?);
            }
            let membership = known.get(&tenant_id).and_then(|groups| groups.get(&row.id));
            let membership = membership.cloned().unwrap_or_default();
            if self.carry(row, &membership).await? == Turn::Busy {
                turn = Turn::Busy;
            }
        }
        Ok(turn)
    }

    async fn carry(&self, row: group::Model, membership: &Membership) -> Result<Turn, StoreError> {
        let Some(wanted) = row.wanted_version.clone() else { return Ok(Turn::Quiet) };
        let now = self.clock.now();
        let Some(updates) = self.take_stock(&row, now).await? else { return Ok(Turn::Busy) };
        let members = self.members(&row, membership, &updates, &wanted).await?;
        match next(pace(&row), row.wave, &members, now) {
            Next::Rest => Ok(Turn::Quiet),
            Next::Wait => Ok(Turn::Busy),
            Next::Halt(reason) => self.halt(row, reason, now).await,
            Next::Wave(chosen) => {
                let version = wanted.parse::<Version>().ok();
                let release = match version {
                    Some(version) => self.catalog.find(&version).await?,
                    None => None,
                };
                if release.is_none() {
                    let reason = format!(
                        "release {wanted} is withdrawn; ask for another version, or publish it again and resume"
                    );
                    return self.halt(row, reason, now).await;
                }
                self.begin_wave(row, &wanted, chosen, &updates, now).await?;
                Ok(Turn::Busy)
            }
        }
    }

    /// Of a group that asks nobody for now: those that were asked go on, and are heard.
    async fn hear(&self, row: &group::Model) -> Result<Turn, StoreError> {
        let updates = self.take_stock(row, self.clock.now()).await?.unwrap_or_default();
        let is_updating = updates.values().any(|update| update.state == UpdateState::Updating);
        Ok(if is_updating { Turn::Busy } else { Turn::Quiet })
    }

    /// Where the agents of a group are by now; `None` if the group has changed meanwhile.
    async fn take_stock(
        &self,
        row: &group::Model,
        now: Timestamp,
    ) -> Result<Option<HashMap<AgentId, agent_update::Model>>, StoreError> {
        let tenant = self.store.tenant(row.tenant_id);
        let mut updates: HashMap<AgentId, agent_update::Model> = tenant
            .group_updates(row.id)
            .await?
            .into_iter()
            .filter(|update| update.wish == row.wish)
            .map(|update| (update.agent_id, update))
            .collect();
        let settled = self.settle(row, &mut updates, now).await?;
        let is_stored =
            settled.is_empty() || tenant.advance_group(row.clone(), row.wave, settled).await?;
        Ok(is_stored.then_some(updates))
    }

    async fn members(
        &self,
        row: &group::Model,
        membership: &Membership,
        updates: &HashMap<AgentId, agent_update::Model>,
        wanted: &str,
    ) -> Result<Vec<Member>, StoreError> {
        // Only those of the last wave are asked how long they have been there.
        let last: Vec<AgentId> = updates
            .values()
            .filter(|update| update.wave == row.wave)
            .map(|update| update.agent_id)
            .collect();
        let tenant = self.store.tenant(row.tenant_id);
        let connected: HashMap<AgentId, Timestamp> = tenant
            .agents_by_id(&last)
            .await?
            .into_iter()
            .map(|agent| (agent.id, agent.connected_at))
            .collect();
        let member = |facts: &crate::domain::target::facts::Facts| Member {
            id: facts.id,
            is_online: facts.is_online,
            connected_at: connected.get(&facts.id).copied().unwrap_or(Timestamp(0)),
            is_there: facts.version == wanted,
            progress: updates.get(&facts.id).map(|update| Progress {
                wave: update.wave,
                state: update.state,
                due_at: update.due_at,
                changed_at: update.changed_at,
            }),
        };
        // Others have no supervisor that could install a release.
        let full = membership.members.iter().filter(|facts| facts.level == AgentLevel::Full);
        Ok(full.map(member).collect())
    }

    /// The agents are noted first, with the commands that they are to get: a command that is missing
    /// then was never sent.
    async fn begin_wave(
        &self,
        row: group::Model,
        wanted: &str,
        chosen: Vec<AgentId>,
        updates: &HashMap<AgentId, agent_update::Model>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let wave = row.wave + 1;
        let tenant = self.store.tenant(row.tenant_id);
        let able: BTreeSet<AgentId> = tenant
            .agents_by_id(&chosen)
            .await?
            .into_iter()
            .filter(|agent| agent.capabilities.0.iter().any(|name| name == CAPABILITY))
            .map(|agent| agent.id)
            .collect();
        let begun: Vec<_> = chosen
            .into_iter()
            .map(|agent_id| agent_update::Model {
                agent_id,
                tenant_id: row.tenant_id,
                group_id: row.id,
                wish: row.wish,
                wave,
                state: UpdateState::Updating,
                command_id: CommandId::new(),
                tries: updates.get(&agent_id).map_or(0, |update| update.tries) + 1,
                due_at: now,
                code: None,
                message: None,
                changed_at: now,
            })
            .map(|update| if able.contains(&update.agent_id) { update } else { unable(update) })
            .collect();
        if !tenant.advance_group(row.clone(), wave, begun.clone()).await? {
            return Ok(());
        }
        tracing::info!(group_id = %row.id, wave, agents = begun.len(), wanted, "a wave of updates");
        // All at once, so that they share a transaction.
        let mut waits = Vec::with_capacity(begun.len());
        for update in begun.iter().filter(|update| update.state == UpdateState::Updating) {
            waits.push((update, self.ask(&row, wanted, update).await?));
        }
        for (update, wait) in waits {
            match wait.await {
                Ok(_) => self.asked(update),
                Err(error) => {
                    let agent_id = update.agent_id;
                    tracing::warn!(%agent_id, error = chain(&error), "an update was not asked for");
                }
            }
        }
        Ok(())
    }

    async fn halt(
        &self,
        row: group::Model,
        reason: String,
        now: Timestamp,
    ) -> Result<Turn, StoreError> {
        tracing::info!(group_id = %row.id, wave = row.wave, reason, "a group halted");
        let audit = audit_entry::Model {
            id: AuditId::new(),
            tenant_id: row.tenant_id,
            at: now,
            actor_kind: ActorKind::System,
            actor_id: None,
            action: "group.halt".to_owned(),
            subject_kind: "group".to_owned(),
            subject_id: Some(row.id.0),
            detail: json!({"wave": row.wave, "reason": reason}).to_string(),
            source: None,
        };
        let tenant = self.store.tenant(row.tenant_id);
        let now = now.max(row.changed_at.plus_ms(1));
        tenant.halt_group(row, reason, now, audit).await?;
        Ok(Turn::Quiet)
    }
}
