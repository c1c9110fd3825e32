//! The health gate: the agents of a finished wave must stay online before the next wave starts.

use crate::domain::time::Timestamp;

/// Shortest time that the agents of a wave have to become healthy, in groups and assignments.
pub const GATE_MS: u64 = 10 * 60_000;
/// Longest time that groups and assignments may require agents to stay connected: 24 h.
pub const MAX_HEALTHY_MS: u64 = 24 * 3_600_000;

/// How long each agent must stay online, and how long the gate waits for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthGate {
    pub for_ms: u64,
    pub within_ms: u64,
}

/// One agent of the finished wave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberHealth {
    /// When the agent has been online for long enough, if it stays online. `None`: it is offline.
    pub healthy_at: Option<Timestamp>,
    /// The gate fails if the agent is not healthy by this instant.
    pub deadline_at: Timestamp,
}

/// The state of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateStatus {
    Open,
    /// It may be open at `check_at`.
    Closed {
        check_at: Timestamp,
    },
    /// At least one agent missed its deadline.
    Failed {
        overdue: usize,
        /// Agents that are not healthy, including the overdue ones.
        unhealthy: usize,
        within_ms: u64,
    },
}

/// Delay between two checks of agents that are offline.
const RECHECK_MS: u64 = 1_000;

impl HealthGate {
    /// Evaluates the agents of a wave. The gate never opens before `opens_at`.
    pub fn evaluate(
        &self,
        members: &[MemberHealth],
        opens_at: Timestamp,
        now: Timestamp,
    ) -> GateStatus {
        let is_healthy = |member: &MemberHealth| member.healthy_at.is_some_and(|at| at <= now);
        let unhealthy: Vec<_> = members.iter().filter(|member| !is_healthy(member)).collect();
        if unhealthy.is_empty() && opens_at <= now {
            return GateStatus::Open;
        }
        let overdue = unhealthy.iter().filter(|member| now >= member.deadline_at).count();
        if overdue > 0 {
            let (unhealthy, within_ms) = (unhealthy.len(), self.within_ms);
            return GateStatus::Failed { overdue, unhealthy, within_ms };
        }
        let last = members.iter().filter_map(|member| member.healthy_at).fold(opens_at, Ord::max);
        let is_anyone_offline = members.iter().any(|member| member.healthy_at.is_none());
        // Offline agents may connect at any time, and a later check would notice that late.
        let check_at =
            if is_anyone_offline || last <= now { now.plus_ms(RECHECK_MS) } else { last };
        let deadline_at = unhealthy.iter().map(|member| member.deadline_at).min();
        GateStatus::Closed { check_at: deadline_at.map_or(check_at, |at| check_at.min(at)) }
    }
}
