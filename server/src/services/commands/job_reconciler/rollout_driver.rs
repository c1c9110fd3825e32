//! The steps of roll-outs, one at a time.

use serde_json::json;

use super::JobReconciler;
use crate::domain::access::principal::ActorKind;
use crate::domain::commands::job_state::{JobState, Stop};
use crate::domain::commands::rollout::gate::Health;
use crate::domain::commands::rollout::step::{Halt, Standing, Step};
use crate::domain::commands::rollout::{Offline, Rollout, RolloutSpec};
use crate::domain::ids::AuditId;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::audit_entry;
use crate::store::queries::{LiveRollout, WaveAgent};
use crate::store::writer::{AdvanceRollout, RolloutMove};

/// Steps of one roll-out before others have their turn.
const MAX_STEPS: usize = 16;
/// Executions that are let go at once: what is more follows right after.
const MAX_RELEASED: u64 = 1_000;

impl JobReconciler {
    /// Takes the steps that a roll-out is due; when it is to be looked at again, if nothing changes
    /// before.
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
            // Written by this program, and checked before: somebody else wrote it.
            tracing::error!(job_id = %live.row.job_id, "failed to read a roll-out; it stays where it is");
            return Ok(None);
        };
        for _ in 0..MAX_STEPS {
            let now = self.clock.now();
            let step = self.next_step(&rollout, &live, now).await?;
            let took = match step {
                Step::Wait => return Ok(None),
                Step::WaitUntil(at) => return Ok(Some(at)),
                Step::Release(count) => self.release(&live, count, now).await?,
                Step::EndWave => {
                    live.row.wave_ended_at = Some(now);
                    self.take(&live, RolloutMove::EndWave, now).await?
                }
                Step::NextWave => {
                    let took = self.next_wave(&rollout, &live, now).await?;
                    live.row.wave += 1;
                    live.row.wave_ended_at = None;
                    if let Some(last) = live.row.offline_wave.filter(|last| took == Some(*last)) {
                        live.row.wave_count = live.row.wave_count.max(last);
                    }
                    took.is_some()
                }
                Step::Halt(halt) => return self.halt(&live, halt, now).await.map(|()| None),
            };
            if !took {
                // Somebody paused, resumed or stopped it, and that woke the keeper as well.
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
    ) -> Result<Step, StoreError> {
        let (row, system) = (&live.row, self.store.system());
        let counts = system.wave_counts(row.job_id, row.wave).await?;
        let is_at_gate = rollout.gate.is_some() && row.wave_ended_at.is_some();
        let agents = match is_at_gate {
            true => system.wave_agents(row.job_id, row.wave).await?,
            false => Vec::new(),
        };
        let health: Vec<Health> = agents.iter().map(|agent| self.health(agent, now)).collect();
        let standing = Standing {
            agents: live.agent_count.unsigned_abs(),
            wave: row.wave.unsigned_abs(),
            wave_count: row.wave_count.unsigned_abs(),
            failures: counts.failures.saturating_sub(row.ignored_failures.unsigned_abs()),
            held: counts.held,
            in_flight: counts.in_flight,
            has_begun: counts.has_begun,
            ended_at: row.wave_ended_at,
            // The server's own absence is no agent's.
            waits_since: row.resumed_at.max(Some(self.presence.started_at)).unwrap_or(now),
            is_waived: row.gate_waived_wave == Some(row.wave),
            health: &health,
        };
        Ok(rollout.next_step(&standing, now))
    }

    fn is_there(&self, agent: &WaveAgent) -> bool {
        let online_since = agent.is_online.then_some(agent.connected_at);
        self.presence.is_online(agent.agent_id, online_since)
    }

    fn health(&self, agent: &WaveAgent, now: Timestamp) -> Health {
        let is_fresh = now.ms_since(agent.last_seen_at) < self.settings.silence_ms();
        Health {
            is_online: agent.is_online && is_fresh && self.hub.is_connected(agent.agent_id),
            connected_at: agent.connected_at,
        }
    }

    async fn release(
        &self,
        live: &LiveRollout,
        count: u64,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let (row, limit) = (&live.row, count.min(MAX_RELEASED));
        let held = self.store.system().held_executions(row.job_id, row.wave, limit).await?;
        let step = RolloutMove::Release {
            command_ids: held.iter().map(|(id, _)| *id).collect(),
            expires_at: now.plus_ms(row.expires_in_ms.unsigned_abs()),
        };
        let took = self.take(live, step, now).await?;
        if took {
            for (_, agent_id) in held {
                self.hub.wake(agent_id);
            }
        }
        Ok(took)
    }

    /// The wave of those who are offline, if some were moved there, else 0; `None` if it was not
    /// taken.
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
            let away = agents.iter().filter(|agent| !self.is_there(agent));
            let away = away.map(|agent| agent.command_id).collect();
            match rollout.offline {
                Some(Offline::Skip) => skipped = away,
                Some(Offline::LastWave) if row.offline_wave != Some(next) => postponed = away,
                _ => {}
            }
        }
        let moved_to = row.offline_wave.filter(|_| !postponed.is_empty()).unwrap_or(0);
        let left_out = skipped.clone();
        if !self.take(live, RolloutMove::NextWave { skipped, postponed }, now).await? {
            return Ok(None);
        }
        for command_id in left_out {
            self.hub.notify_ended(command_id, Some(row.job_id));
        }
        Ok(Some(moved_to))
    }

    async fn halt(&self, live: &LiveRollout, halt: Halt, now: Timestamp) -> Result<(), StoreError> {
        let reason = halt.sentence();
        let row = &live.row;
        let audit = audit_entry::Model {
            id: AuditId::new(),
            tenant_id: row.tenant_id,
            at: now,
            actor_kind: ActorKind::System,
            actor_id: None,
            action: "job.halt".to_owned(),
            subject_kind: "job".to_owned(),
            subject_id: Some(row.job_id.0),
            detail: json!({"wave": row.wave, "reason": reason}).to_string(),
            source: None,
        };
        tracing::info!(job_id = %row.job_id, wave = row.wave, reason, "roll-out halted");
        let step = RolloutMove::Halt { reason, audit: Box::new(audit) };
        self.take(live, step, now).await.map(|_| ())
    }

    async fn end_aborted(&self, live: &LiveRollout) -> Result<(), StoreError> {
        let (job_id, now) = (live.row.job_id, self.clock.now());
        for (command_id, _) in self.store.system().end_aborted(job_id, now).await? {
            self.hub.notify_ended(command_id, Some(job_id));
        }
        Ok(())
    }

    async fn take(
        &self,
        live: &LiveRollout,
        step: RolloutMove,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let (tenant_id, job_id, wave) = (live.row.tenant_id, live.row.job_id, live.row.wave);
        let operation = AdvanceRollout { tenant_id, job_id, wave, step, now };
        self.store.writer().commit(operation).await
    }
}
