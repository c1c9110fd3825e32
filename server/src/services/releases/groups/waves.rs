//! A wave of a group: who is asked is noted first, then asked, in pieces; or nobody is any more.

use std::collections::{BTreeSet, HashMap};

use muster_protocol::release::CAPABILITY;
use serde_json::json;

use super::Groups;
use super::reconciliation::Turn;
use super::update_attempts::{asked, command, note};
use crate::domain::access::principal::ActorKind;
use crate::domain::ids::{AgentId, AuditId, CommandId};
use crate::domain::releases::group::{GroupState, UpdateState};
use crate::domain::time::Timestamp;
use crate::services::error::chain;
use crate::store::StoreError;
use crate::store::entities::access::audit_entry;
use crate::store::entities::releases::{agent_update, group};

/// Commands that are stored together. Between two pieces the group may be stopped.
const ASKED_AT_ONCE: usize = 500;

/// Where the agents of a group are.
pub(super) type Updates = HashMap<AgentId, agent_update::Model>;

impl Groups {
    /// Begins another wave.
    pub(super) async fn begin(
        &self,
        row: group::Model,
        wanted: &str,
        chosen: Vec<AgentId>,
        updates: &Updates,
        now: Timestamp,
    ) -> Result<Turn, StoreError> {
        let (wave, generation) = (row.wave + 1, row.generation);
        let begun = self.wave(&row, chosen, updates, now).await?;
        let tenant = self.store.tenant(row.tenant_id);
        if tenant.advance_group(row.clone(), wave, begun.clone()).await? {
            tracing::info!(group_id = %row.id, wave, generation, agents = begun.len(), wanted, "a wave of updates");
            self.send(&group::Model { wave, ..row }, wanted, begun).await?;
        }
        Ok(Turn::Busy)
    }

    /// The agents of the next wave, with the commands that they are to get: one that is missing later
    /// was never sent.
    async fn wave(
        &self,
        row: &group::Model,
        chosen: Vec<AgentId>,
        updates: &Updates,
        now: Timestamp,
    ) -> Result<Vec<agent_update::Model>, StoreError> {
        let agents = self.store.tenant(row.tenant_id).agents_by_id(&chosen).await?;
        let able: BTreeSet<AgentId> = agents
            .into_iter()
            .filter(|agent| agent.capabilities.0.iter().any(|name| name == CAPABILITY))
            .map(|agent| agent.id)
            .collect();
        let begun = |agent_id: AgentId| {
            // Who was there already begins anew.
            let before = updates.get(&agent_id).filter(|update| update.state != UpdateState::Done);
            let mut update = agent_update::Model {
                agent_id,
                tenant_id: row.tenant_id,
                group_id: row.id,
                generation: row.generation,
                wave: row.wave + 1,
                state: UpdateState::Updating,
                command_id: CommandId::new(),
                tries: before.map_or(0, |update| update.tries) + 1,
                due_at: now,
                code: None,
                message: None,
                changed_at: now,
            };
            if !able.contains(&agent_id) {
                let judgement = asked(&update).unable();
                note(&mut update, judgement, now);
            }
            update
        };
        Ok(chosen.into_iter().map(begun).collect())
    }

    /// Asks the agents of a wave, as long as nobody has stopped the group or wants something else of
    /// it; false if somebody has. Whoever is not asked then is taken for one that never was.
    pub(super) async fn send(
        &self,
        row: &group::Model,
        wanted: &str,
        begun: Vec<agent_update::Model>,
    ) -> Result<bool, StoreError> {
        let lost_after_ms = self.settings.lost_after_ms;
        let begun: Vec<_> =
            begun.into_iter().filter(|update| update.state == UpdateState::Updating).collect();
        for piece in begun.chunks(ASKED_AT_ONCE) {
            let found = self.store.tenant(row.tenant_id).group(row.id).await?;
            if !found.is_some_and(|found| is_current(&found, row)) {
                tracing::info!(group_id = %row.id, wave = row.wave, "a wave was stopped");
                return Ok(false);
            }
            let mut pending = Vec::with_capacity(piece.len());
            // None is late before it is asked.
            let now = self.clock.now();
            for update in piece {
                let operation = command(row, wanted, update, lost_after_ms, now);
                pending.push((update, self.store.writer().enqueue(operation).await?));
            }
            for (update, stored) in pending {
                let agent_id = update.agent_id;
                match stored.await {
                    Ok(_) => {
                        self.hub.notify_progress(update.command_id);
                        self.hub.wake(agent_id);
                    }
                    Err(error) => {
                        let error = chain(&error);
                        tracing::warn!(%agent_id, error, "an update was not asked for");
                    }
                }
            }
        }
        Ok(true)
    }

    /// Asks nobody any more.
    pub(super) async fn halt(
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
        Ok(Turn::NOTHING)
    }
}

/// True if the wave of a group is still to go out.
fn is_current(found: &group::Model, wave: &group::Model) -> bool {
    let is_it = found.generation == wave.generation && found.wave == wave.wave;
    is_it && found.state == GroupState::Active
}
