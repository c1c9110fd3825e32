//! The next step of a rollout: counts its executions for `domain/waves`.

use super::Rollout;
use crate::domain::time::Timestamp;
use crate::domain::waves::gate::{GateStatus, HealthGate, MemberHealth};
use crate::domain::waves::{Successor, WavePhase, WaveSnapshot, WaveStep, plan_next};

/// Ends the text of every halt.
pub const HALT_REMEDY: &str = "Check the agents, then resume or abort the job.";

/// A rollout and the counts of its executions.
#[derive(Debug, Clone, Copy)]
pub struct RolloutSnapshot<'a> {
    /// Agents of the job.
    pub agents: u64,
    /// The current wave, counted from 1.
    pub wave: u32,
    pub wave_count: u32,
    /// Failures so far, without those that a person ignored by resuming.
    pub failures: u64,
    /// Executions of this wave that are still held.
    pub held: u64,
    /// Executions whose holds were lifted and that have not ended: queued, delivered or running.
    pub in_flight: u64,
    /// True if any execution of this wave has started or may start.
    pub has_started: bool,
    /// When the end of the wave was noted.
    pub ended_at: Option<Timestamp>,
    /// When this server started to wait for the end of the wave.
    pub waits_since: Timestamp,
    /// A person resumed after this wave: its pause and its gate do not apply.
    pub is_waived: bool,
    /// The agents of this wave; only read after it has ended.
    pub agent_health: &'a [AgentHealth],
}

/// An agent of a wave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentHealth {
    /// It is connected and has sent a heartbeat lately.
    pub is_online: bool,
    /// When its session started.
    pub connected_at: Timestamp,
}

impl Rollout {
    /// Decides the next step of a running rollout. After [`WaveStep::PassWave`] the next wave
    /// starts at once.
    pub fn next_step(&self, snapshot: &RolloutSnapshot<'_>, now: Timestamp) -> WaveStep {
        let is_last = snapshot.wave >= snapshot.wave_count;
        plan_next(&WaveSnapshot {
            wave: snapshot.wave,
            phase: self.phase(snapshot, now),
            failures: snapshot.failures,
            failure_limit: self.failure_limit(snapshot.agents),
            counts_in_flight: self.counts_in_flight,
            // Executions of offline agents stay in flight until they expire.
            unreachable: 0,
            held: snapshot.held,
            in_flight: snapshot.in_flight,
            held_back_until: None,
            successor: if is_last { Successor::None } else { Successor::Ready },
        })
    }

    fn phase(&self, snapshot: &RolloutSnapshot<'_>, now: Timestamp) -> WavePhase {
        if !snapshot.has_started {
            // All of the wave was skipped or postponed, so there is nothing to pause for.
            return WavePhase::Passed;
        }
        match snapshot.ended_at {
            None => WavePhase::Running,
            Some(_) if snapshot.is_waived => WavePhase::Passed,
            Some(ended_at) => WavePhase::Ended(self.gate_status(snapshot, ended_at, now)),
        }
    }

    fn gate_status(
        &self,
        snapshot: &RolloutSnapshot<'_>,
        ended_at: Timestamp,
        now: Timestamp,
    ) -> GateStatus {
        let paused_until = ended_at.plus_ms(self.pause_ms);
        if now < paused_until {
            return GateStatus::Closed { check_at: paused_until };
        }
        let Some(gate) = &self.gate else { return GateStatus::Open };
        let waits_since = Ord::max(paused_until, snapshot.waits_since);
        evaluate(*gate, snapshot.agent_health, ended_at, waits_since, now)
    }
}

/// Evaluates the agents of a wave that ended at `ended_at`. Their deadline counts from
/// `waits_since`: after the pause, and not while the server was down.
///
/// A new session restarts an agent's time, because the agent was offline in between.
fn evaluate(
    gate: HealthGate,
    agents: &[AgentHealth],
    ended_at: Timestamp,
    waits_since: Timestamp,
    now: Timestamp,
) -> GateStatus {
    let deadline_at = Ord::max(ended_at, waits_since).plus_ms(gate.within_ms);
    let member = |agent: &AgentHealth| {
        let since = Ord::max(agent.connected_at, ended_at);
        let healthy_at = agent.is_online.then(|| since.plus_ms(gate.for_ms));
        MemberHealth { healthy_at, deadline_at }
    };
    let members: Vec<_> = agents.iter().map(member).collect();
    gate.evaluate(&members, ended_at.plus_ms(gate.for_ms), now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GATE: HealthGate = HealthGate { for_ms: 30, within_ms: 100 };
    const END: Timestamp = Timestamp(1_000);

    fn at(ms: i64) -> Timestamp {
        Timestamp(ms)
    }

    fn agent(is_online: bool, connected_at: i64) -> AgentHealth {
        AgentHealth { is_online, connected_at: at(connected_at) }
    }

    fn status(agents: &[AgentHealth], waits_since: Timestamp, now: Timestamp) -> GateStatus {
        evaluate(GATE, agents, END, waits_since, now)
    }

    #[test]
    fn agents_that_stay_online_open_the_gate_after_the_required_time() {
        let agents = [agent(true, 500), agent(true, 900)];
        let closed = status(&agents, END, at(1_029));
        assert_eq!(closed, GateStatus::Closed { check_at: at(1_030) });
        assert_eq!(status(&agents, END, at(1_030)), GateStatus::Open);
    }

    #[test]
    fn an_agent_that_reconnects_must_stay_online_for_the_whole_time_again() {
        let agents = [agent(true, 1_020)];
        assert!(matches!(status(&agents, END, at(1_049)), GateStatus::Closed { .. }));
        assert_eq!(status(&agents, END, at(1_050)), GateStatus::Open);
    }

    #[test]
    fn an_agent_that_stays_offline_fails_the_gate_at_its_deadline() {
        let agents = [agent(false, 500), agent(true, 500)];
        let closed = status(&agents, END, at(1_099));
        assert_eq!(closed, GateStatus::Closed { check_at: at(1_100) });
        let failed = GateStatus::Failed { overdue: 1, unhealthy: 1, within_ms: 100 };
        assert_eq!(status(&agents, END, at(1_100)), failed);
        // A server that was down has not waited yet.
        let later = status(&agents, at(5_000), at(5_050));
        assert!(matches!(later, GateStatus::Closed { .. }));
    }

    #[test]
    fn a_wave_without_agents_passes_after_the_required_time() {
        assert!(matches!(status(&[], END, at(1_029)), GateStatus::Closed { .. }));
        assert_eq!(status(&[], END, at(1_030)), GateStatus::Open);
    }

    proptest! {
        #[test]
        fn a_gate_never_opens_while_an_agent_is_offline_and_never_schedules_a_past_check(
            agents in prop::collection::vec((any::<bool>(), 0i64..3_000), 0..20),
            now in 1_000i64..3_000,
        ) {
            let agents: Vec<_> = agents.into_iter().map(|(is, since)| agent(is, since)).collect();
            match status(&agents, END, at(now)) {
                GateStatus::Open => prop_assert!(agents.iter().all(|agent| agent.is_online)),
                GateStatus::Closed { check_at } => prop_assert!(check_at > at(now)),
                GateStatus::Failed { .. } => prop_assert!(now >= 1_100),
            }
        }
    }
}
