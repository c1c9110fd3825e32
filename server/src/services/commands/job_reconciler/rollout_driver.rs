//! Carries out the steps of rollouts, one at a time.

use serde_json::json;

use super::JobReconciler;
use crate::domain::commands::job_state::{JobState, Stop};
use crate::domain::commands::rollout::step::{AgentHealth, HALT_REMEDY, RolloutSnapshot};
use crate::domain::commands::rollout::{Offline, Rollout, RolloutSpec};
use crate::domain::ids::{AgentId, CommandId, PrincipalId};
use crate::domain::time::Timestamp;
use crate::domain::waves::{INVALID_API_KEY, WaveStep};
use crate::services::access::caller::{AuditAction, Subject};
use crate::store::StoreError;
use crate::store::queries::{LiveRollout, WaveAgent};
use crate::store::writer::{AdvanceRollout, RolloutChange};

/// Steps of one rollout before the next rollout is reconciled.
const MAX_STEPS: usize = 16;
/// Most holds that one step lifts; the next step lifts more.
const MAX_LIFTED: u64 = 1_000;

/// An execution that is held, and the key that requested it.
type HeldExecution = (CommandId, AgentId, PrincipalId);

impl JobReconciler {
    /// Takes the due steps of a rollout. Returns when the rollout must be reconciled again even if
    /// nothing changes.
    pub(super) async fn advance(
        &self,
        mut live: LiveRollout,
    ) -> Result<Option<Timestamp>, StoreError> {
        if live.stop == Some(Stop::Aborted) {
            self.end_aborted(&live).await?;
        }
        if live.state != JobState::Running || live.stop.is_some() {
            return Ok(None);
        }
        let spec = serde_json::from_str::<RolloutSpec>(&live.row.spec);
        let Some(rollout) = spec.ok().and_then(|spec| Rollout::try_from(&spec).ok()) else {
            // The server validates a rollout before it stores it, so another program wrote this.
            tracing::error!(job_id = %live.row.job_id, "failed to read the stored rollout; it does not continue");
            return Ok(None);
        };
        for _ in 0..MAX_STEPS {
            let now = self.clock.now();
            let step = self.next_step(&rollout, &live, now).await?;
            let is_committed = match step {
                WaveStep::Wait | WaveStep::Idle { .. } => return Ok(None),
                WaveStep::WaitUntil(at) => return Ok(Some(at)),
                WaveStep::Start(count) => {
                    let held = self.held(&live, count).await?;
                    let requesters = held.iter().map(|(_, _, requested_by)| *requested_by);
                    let system = self.store.system();
                    if !system.invalid_requesters(requesters.collect(), now).await?.is_empty() {
                        let reason = format!("Halted: {INVALID_API_KEY}. {HALT_REMEDY}");
                        return self.halt(&live, reason, now).await.map(|()| None);
                    }
                    self.lift_holds(&live, held, now).await?
                }
                WaveStep::EndWave => {
                    live.row.wave_ended_at = Some(now);
                    self.commit(&live, RolloutChange::EndWave, now).await?
                }
                WaveStep::PassWave | WaveStep::NextWave => {
                    let moved_to = self.next_wave(&rollout, &live, now).await?;
                    live.row.wave += 1;
                    live.row.wave_ended_at = None;
                    if let Some(last) = live.row.offline_wave.filter(|last| moved_to == Some(*last))
                    {
                        live.row.wave_count = live.row.wave_count.max(last);
                    }
                    moved_to.is_some()
                }
                WaveStep::Halt(reason) => {
                    let reason = reason.sentence(HALT_REMEDY);
                    return self.halt(&live, reason, now).await.map(|()| None);
                }
            };
            if !is_committed {
                // A person paused, resumed or stopped it, which triggers another reconciliation.
                return Ok(None);
            }
        }
        Ok(Some(self.clock.now()))
    }

    async fn next_step(
        &self,
        rollout: &Rollout,
        live: &LiveRollout,
        now: Timestamp,
    ) -> Result<WaveStep, StoreError> {
        let (row, system) = (&live.row, self.store.system());
        let counts = system.wave_counts(row.job_id, row.wave).await?;
        let is_at_gate = rollout.gate.is_some() && row.wave_ended_at.is_some();
        let agents = match is_at_gate {
            true => system.wave_agents(row.job_id, row.wave).await?,
            false => Vec::new(),
        };
        let agent_health: Vec<AgentHealth> =
            agents.iter().map(|agent| self.health(agent, now)).collect();
        let snapshot = RolloutSnapshot {
            agents: live.agent_count.unsigned_abs(),
            wave: row.wave.unsigned_abs(),
            wave_count: row.wave_count.unsigned_abs(),
            failures: counts.failures.saturating_sub(row.ignored_failures.unsigned_abs()),
            held: counts.held,
            in_flight: counts.in_flight,
            has_started: counts.has_started,
            ended_at: row.wave_ended_at,
            // Time while the server was down does not count against agents.
            waits_since: row.resumed_at.max(Some(self.presence.started_at)).unwrap_or(now),
            is_waived: row.gate_waived_wave == Some(row.wave),
            agent_health: &agent_health,
        };
        Ok(rollout.next_step(&snapshot, now))
    }

    fn is_online(&self, agent: &WaveAgent) -> bool {
        let online_since = agent.is_online.then_some(agent.connected_at);
        self.presence.is_online(agent.agent_id, online_since)
    }

    fn health(&self, agent: &WaveAgent, now: Timestamp) -> AgentHealth {
        let is_fresh = now.ms_since(agent.last_seen_at) < self.settings.silence_ms();
        AgentHealth {
            is_online: agent.is_online && is_fresh && self.hub.is_connected(agent.agent_id),
            connected_at: agent.connected_at,
        }
    }

    async fn held(&self, live: &LiveRollout, count: u64) -> Result<Vec<HeldExecution>, StoreError> {
        let (row, limit) = (&live.row, count.min(MAX_LIFTED));
        self.store.system().held_executions(row.job_id, row.wave, limit).await
    }

    async fn lift_holds(
        &self,
        live: &LiveRollout,
        held: Vec<HeldExecution>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let change = RolloutChange::LiftHolds {
            command_ids: held.iter().map(|(id, ..)| *id).collect(),
            expires_at: now.plus_ms(live.row.expires_in_ms.unsigned_abs()),
        };
        let is_committed = self.commit(live, change, now).await?;
        if is_committed {
            for (_, agent_id, _) in held {
                self.hub.wake(agent_id);
            }
        }
        Ok(is_committed)
    }

    /// Starts the next wave. Returns the wave of offline agents if agents were moved there, else 0;
    /// `None` if the step was not committed.
    async fn next_wave(
        &self,
        rollout: &Rollout,
        live: &LiveRollout,
        now: Timestamp,
    ) -> Result<Option<i32>, StoreError> {
        let (row, system) = (&live.row, self.store.system());
        let next = row.wave + 1;
        let (mut skipped, mut postponed) = (Vec::new(), Vec::new());
        if rollout.offline.is_some() {
            let agents = system.wave_agents(row.job_id, next).await?;
            let offline = agents.iter().filter(|agent| !self.is_online(agent));
            let offline = offline.map(|agent| agent.command_id).collect();
            match rollout.offline {
                Some(Offline::Skip) => skipped = offline,
                Some(Offline::LastWave) if row.offline_wave != Some(next) => postponed = offline,
                _ => {}
            }
        }
        let moved_to = row.offline_wave.filter(|_| !postponed.is_empty()).unwrap_or(0);
        let ended = skipped.clone();
        if !self.commit(live, RolloutChange::NextWave { skipped, postponed }, now).await? {
            return Ok(None);
        }
        for command_id in ended {
            self.hub.notify_ended(command_id, Some(row.job_id));
        }
        Ok(Some(moved_to))
    }

    async fn halt(
        &self,
        live: &LiveRollout,
        reason: String,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let row = &live.row;
        tracing::info!(job_id = %row.job_id, wave = row.wave, reason, "rollout halted");
        let subject = Subject { kind: "job", id: row.job_id.0 };
        let detail = json!({"wave": row.wave, "reason": reason});
        let audit = AuditAction {
            tenant_id: row.tenant_id,
            action: "job.halt",
            subject,
            detail: &detail,
            at: now,
        }
        .by_system();
        let change = RolloutChange::Halt { reason, audit: Box::new(audit) };
        self.commit(live, change, now).await.map(|_| ())
    }

    async fn end_aborted(&self, live: &LiveRollout) -> Result<(), StoreError> {
        let (job_id, now) = (live.row.job_id, self.clock.now());
        for (command_id, _) in self.store.system().end_aborted(job_id, now).await? {
            self.hub.notify_ended(command_id, Some(job_id));
        }
        Ok(())
    }

    async fn commit(
        &self,
        live: &LiveRollout,
        change: RolloutChange,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let (tenant_id, job_id, wave) = (live.row.tenant_id, live.row.job_id, live.row.wave);
        let operation = AdvanceRollout { tenant_id, job_id, wave, change, now };
        self.store.writer().commit(operation).await
    }
}
