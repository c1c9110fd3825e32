//! Starts a wave of a group: stores the attempts first, then requests the updates in batches, and
//! stops between two batches if the wave is no longer current. Also halts a group.

use std::collections::BTreeSet;

use muster_protocol::release::CAPABILITY;
use serde_json::json;

use super::update_attempts::{Updates, apply, attempt, update_command};
use super::{Groups, subject};
use crate::domain::ids::{AgentId, CommandId};
use crate::domain::releases::group::cohort::Cohort;
use crate::domain::releases::group::{GroupState, UpdateState, WaveMember};
use crate::domain::time::Timestamp;
use crate::services::access::caller::AuditAction;
use crate::store::StoreError;
use crate::store::entities::releases::{agent_update, group};
use muster_protocol::error_chain;

/// Commands of one batch.
const BATCH: usize = 500;

impl Groups {
    /// Starts the next wave.
    pub(super) async fn start_wave(
        &self,
        row: group::Model,
        version: &str,
        chosen: Vec<WaveMember>,
        updates: &Updates,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (wave, generation) = (row.wave + 1, row.generation);
        let replaced = replaced_canaries(&chosen, updates);
        let attempts = self.new_attempts(&row, chosen, updates, now).await?;
        let stored = attempts.iter().cloned().chain(replaced).collect();
        let tenant = self.store.tenant(row.tenant_id);
        if tenant.advance_group(row.clone(), wave, stored).await? {
            let agents = attempts.len();
            tracing::info!(group_id = %row.id, wave, generation, agents, version, "started a wave of updates");
            self.request_updates(&group::Model { wave, ..row }, version, attempts).await?;
        }
        Ok(())
    }

    /// The attempts of the next wave, each with the id of its future command. A command that is
    /// missing later was never sent.
    async fn new_attempts(
        &self,
        row: &group::Model,
        chosen: Vec<WaveMember>,
        updates: &Updates,
        now: Timestamp,
    ) -> Result<Vec<agent_update::Model>, StoreError> {
        let ids: Vec<AgentId> = chosen.iter().map(|member| member.id).collect();
        let agents = self.store.tenant(row.tenant_id).agents_by_id(&ids).await?;
        let able: BTreeSet<AgentId> = agents
            .into_iter()
            .filter(|agent| agent.capabilities.0.iter().any(|name| name == CAPABILITY))
            .map(|agent| agent.id)
            .collect();
        let new_attempt = |member: WaveMember| {
            let agent_id = member.id;
            // Earlier tries of an agent that was up to date since do not count.
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
                cohort: member.cohort.to_string(),
                is_canary: member.is_canary,
                probe_command_id: None,
            };
            if !able.contains(&agent_id) {
                let transition = attempt(&update).unsupported();
                apply(&mut update, transition, now);
            }
            update
        };
        Ok(chosen.into_iter().map(new_attempt).collect())
    }

    /// Requests the updates of a wave while it is current; false if it no longer is. An agent whose
    /// command was not stored by then counts as never tried.
    pub(super) async fn request_updates(
        &self,
        row: &group::Model,
        version: &str,
        attempts: Vec<agent_update::Model>,
    ) -> Result<bool, StoreError> {
        let lost_after_ms = self.settings.lost_after_ms;
        let attempts: Vec<_> =
            attempts.into_iter().filter(|update| update.state == UpdateState::Updating).collect();
        for batch in attempts.chunks(BATCH) {
            let found = self.store.tenant(row.tenant_id).group(row.id).await?;
            if !found.is_some_and(|found| is_current(&found, row)) {
                tracing::info!(group_id = %row.id, wave = row.wave, "stopped a wave of updates");
                return Ok(false);
            }
            let mut pending = Vec::with_capacity(batch.len());
            // Read for each batch, so that no command expires before it is stored.
            let now = self.clock.now();
            for update in batch {
                let operation = update_command(row, version, update, lost_after_ms, now);
                pending.push((update, self.store.writer().enqueue(operation).await?));
            }
            for (update, stored) in pending {
                let agent_id = update.agent_id;
                match stored.await {
                    Ok(_) => self.hub.announce_new(agent_id, update.command_id, true),
                    Err(error) => {
                        let error = error_chain(&error);
                        tracing::warn!(%agent_id, error, "failed to request an update");
                    }
                }
            }
        }
        Ok(true)
    }

    /// Requests no more updates, and notes why.
    pub(super) async fn halt(
        &self,
        row: group::Model,
        reason: String,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        tracing::info!(group_id = %row.id, wave = row.wave, reason, "group halted");
        let detail = json!({"wave": row.wave, "reason": reason});
        let audit = AuditAction {
            tenant_id: row.tenant_id,
            action: "group.halt",
            subject: subject(row.id),
            detail: &detail,
            at: now,
        }
        .by_system();
        let tenant = self.store.tenant(row.tenant_id);
        let now = now.max(row.changed_at.plus_ms(1));
        tenant.halt_group(row, reason, now, audit).await?;
        Ok(())
    }
}

/// Former canaries of the cohorts that get another one, which are canaries no more.
fn replaced_canaries(chosen: &[WaveMember], updates: &Updates) -> Vec<agent_update::Model> {
    let is_replaced = |update: &&agent_update::Model| {
        let cohort = Cohort::parse(&update.cohort);
        let is_chosen = chosen.iter().any(|member| member.id == update.agent_id);
        let has_new = chosen.iter().any(|member| member.is_canary && member.cohort == cohort);
        update.is_canary && has_new && !is_chosen
    };
    let former = updates.values().filter(is_replaced);
    let replaced = |update: &agent_update::Model| agent_update::Model {
        is_canary: false,
        probe_command_id: None,
        ..update.clone()
    };
    former.map(replaced).collect()
}

/// True if the stored group still wants this wave.
fn is_current(found: &group::Model, wave: &group::Model) -> bool {
    let is_same = found.generation == wave.generation && found.wave == wave.wave;
    is_same && found.state == GroupState::Active
}
