//! Waves: work that reaches a fleet in steps, and halts when too much fails.
//!
//! One engine serves the rollouts of jobs (`domain/commands/rollout`), the updates of groups
//! (`domain/releases/group`) and the versions of assignments (`domain/library/assignment_rollout`). Each feature counts what it knows into a [`WaveSnapshot`], calls
//! [`plan_next`], and carries out the [`WaveStep`] in a transaction that first checks that the
//! wave is still current. The engine knows neither executions nor releases, and has no clock.
//!
//! ```text
//! Running ──all ended──► Ended ──health gate open──► Passed ──agents ready──► next wave
//!    │                     └─ agents unhealthy too long ─► Halt
//!    └─ failures above the limit ─► Halt
//! ```

pub mod amount;
pub mod gate;

#[cfg(test)]
mod tests;

use self::gate::GateStatus;
use crate::domain::time::Timestamp;

/// Everything that decides the next step. A member is one agent's share of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaveSnapshot {
    /// The current wave, counted from 1.
    pub wave: u32,
    pub phase: WavePhase,
    pub failures: u64,
    /// More failures than this halt. `None`: failures never halt.
    pub failure_limit: Option<u64>,
    /// True: each member in flight counts as a possible failure, so that the limit is exceeded by
    /// at most one. False: a wave starts as a whole.
    pub counts_in_flight: bool,
    /// Members that went offline after they started, and have not reported since.
    pub unreachable: u64,
    /// Members of the current wave that have not started.
    pub held: u64,
    /// Members that have started and not ended.
    pub in_flight: u64,
    /// The next wave starts no earlier: members of this one wait for a retry.
    pub held_back_until: Option<Timestamp>,
    pub successor: Successor,
}

/// How far the current wave is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WavePhase {
    /// Its end is not noted.
    Running,
    /// Every member has ended, and the health gate decides.
    Ended(GateStatus),
    /// The gate was passed or waived, or the wave had no members.
    Passed,
}

/// The wave after the current one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Successor {
    /// It has members that can start.
    Ready,
    /// No member can start now. `due_at`: when the first can; `None`: unknown.
    Empty { due_at: Option<Timestamp> },
    /// The current wave is the last.
    None,
}

/// The next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaveStep {
    /// Work is in flight: wait until something changes.
    Wait,
    /// Check again at this instant, or when something changes.
    WaitUntil(Timestamp),
    /// Nothing is in flight. Plan again at `until`, or when something changes.
    Idle { until: Option<Timestamp> },
    /// Start this many held members of the current wave.
    Start(u64),
    /// Note that every member of the wave has ended.
    EndWave,
    /// Note that the wave has passed its health gate.
    PassWave,
    /// Start the next wave.
    NextWave,
    /// Start nothing until a person resumes.
    Halt(HaltReason),
}

/// Why waves halt by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HaltReason {
    Failures {
        failures: u64,
        limit: u64,
    },
    /// A single unreachable agent is a coincidence. More of them, or one beside as many failures
    /// as allowed, suggest that the work breaks agents.
    Unreachable {
        failures: u64,
        unreachable: u64,
        limit: u64,
    },
    Unhealthy {
        wave: u32,
        agents: usize,
        within_ms: u64,
    },
}

/// Why nothing more is sent of what a key requested. Continues "Halted: ".
pub const INVALID_API_KEY: &str = "the API key that requested it was revoked or has expired";

impl HaltReason {
    /// The text that people read. `remedy` is a whole sentence.
    pub fn sentence(self, remedy: &str) -> String {
        let fact = match self {
            Self::Failures { failures, limit } => {
                format!("{failures} failed, the limit is {limit}")
            }
            Self::Unreachable { failures, unreachable, limit } => format!(
                "{} went offline and {failures} failed, the limit for both together is {limit}",
                pluralize(unreachable, "agent")
            ),
            Self::Unhealthy { wave, agents, within_ms } => format!(
                "{} of wave {wave} did not stay online for the required time within {within_ms} ms",
                pluralize(agents as u64, "agent")
            ),
        };
        format!("Halted: {fact}. {remedy}")
    }
}

/// Decides the next step.
pub fn plan_next(snapshot: &WaveSnapshot) -> WaveStep {
    if snapshot.held == 0 && snapshot.successor == Successor::None {
        // What is in flight ends by itself, and then the whole run ends.
        return WaveStep::Wait;
    }
    let failures = snapshot.failures;
    if let Some(limit) = snapshot.failure_limit.filter(|limit| failures > *limit) {
        return WaveStep::Halt(HaltReason::Failures { failures, limit });
    }
    if snapshot.held > 0 {
        return match snapshot.free_starts().min(snapshot.held) {
            0 => WaveStep::Wait,
            count => WaveStep::Start(count),
        };
    }
    if snapshot.in_flight > 0 {
        return WaveStep::Wait;
    }
    let unreachable = snapshot.unreachable;
    let limit = snapshot.failure_limit.map(|limit| limit + 1);
    if let Some(limit) = limit.filter(|limit| failures + unreachable > *limit) {
        return WaveStep::Halt(HaltReason::Unreachable { failures, unreachable, limit });
    }
    after_the_wave(snapshot)
}

/// The next step once nothing of the current wave is held or in flight.
fn after_the_wave(snapshot: &WaveSnapshot) -> WaveStep {
    match snapshot.phase {
        WavePhase::Running => return WaveStep::EndWave,
        WavePhase::Ended(gate) if is_passed(gate, snapshot.successor) => return WaveStep::PassWave,
        WavePhase::Ended(_) | WavePhase::Passed => {}
    }
    if let Some(until) = snapshot.held_back_until {
        return WaveStep::Idle { until: Some(until) };
    }
    match (snapshot.phase, snapshot.successor) {
        (WavePhase::Ended(_), Successor::Empty { .. }) => WaveStep::Wait,
        (_, Successor::Empty { due_at }) => WaveStep::Idle { until: due_at },
        (WavePhase::Ended(GateStatus::Closed { check_at }), _) => WaveStep::WaitUntil(check_at),
        (WavePhase::Ended(GateStatus::Failed { overdue, within_ms, .. }), _) => {
            let (wave, agents) = (snapshot.wave, overdue);
            WaveStep::Halt(HaltReason::Unhealthy { wave, agents, within_ms })
        }
        _ => WaveStep::NextWave,
    }
}

/// True if nothing waits for the health of the wave. With no agents to protect, a wave whose
/// unhealthy agents are all overdue counts as passed.
fn is_passed(gate: GateStatus, successor: Successor) -> bool {
    match gate {
        GateStatus::Open => true,
        GateStatus::Closed { .. } => false,
        GateStatus::Failed { overdue, unhealthy, .. } => {
            successor != Successor::Ready && overdue == unhealthy
        }
    }
}

impl WaveSnapshot {
    /// How many members may start now without risking more than one failure above the limit.
    fn free_starts(&self) -> u64 {
        match self.failure_limit {
            Some(limit) if self.counts_in_flight => {
                (limit + 1).saturating_sub(self.failures + self.in_flight)
            }
            _ => u64::MAX,
        }
    }
}

/// `1 agent`, `2 agents`.
fn pluralize(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}
