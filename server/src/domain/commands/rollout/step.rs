//! What a roll-out does next.

use super::Rollout;
use super::gate::{Health, Verdict};
use crate::domain::pluralize::pluralize;
use crate::domain::time::Timestamp;

/// A roll-out as it stands.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    /// Agents that the job was made for.
    pub agents: u64,
    /// The wave that has its turn, counted from 1.
    pub wave: u32,
    pub wave_count: u32,
    /// Failures so far, but for those that somebody let pass by resuming.
    pub failures: u64,
    /// Executions of this wave that have not been let go.
    pub held: u64,
    /// Executions that have been let go and have not ended: waiting for their agents, sent, running.
    pub in_flight: u64,
    /// True if an execution of this wave was let go at all.
    pub has_begun: bool,
    /// When it was noted that the wave had ended.
    pub ended_at: Option<Timestamp>,
    /// Since when its end is waited for by this server.
    pub waits_since: Timestamp,
    /// Somebody resumed behind this wave: neither pause nor gate counts.
    pub is_waived: bool,
    /// The agents of this wave; read only once it has ended.
    pub health: &'a [Health],
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing, until something changes.
    Wait,
    /// Nothing, until then.
    WaitUntil(Timestamp),
    /// Let this many more executions of the wave go.
    Release(u64),
    /// Note that the wave has ended.
    EndWave,
    /// The next wave has its turn.
    NextWave,
    Halt(Halt),
}

/// Why a roll-out stops by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Halt {
    Budget { failures: u64, budget: u64 },
    Gate { wave: u32, unwell: usize, within_ms: u64 },
}

impl Halt {
    /// A sentence that says what happened and what to do.
    pub fn sentence(self) -> String {
        match self {
            Self::Budget { failures, budget } => format!(
                "{} failed and {budget} may; look at what failed, then resume to go on, or abort",
                pluralize(failures, "execution")
            ),
            Self::Gate { wave, unwell, within_ms } => format!(
                "of wave {wave}, {} kept away or did not stay online for long enough within {within_ms} ms after it; \
                 look at them, then resume to go on, or abort",
                pluralize(unwell as u64, "agent")
            ),
        }
    }
}

impl Rollout {
    /// What a roll-out that runs does next.
    pub fn next_step(&self, standing: &Standing<'_>, now: Timestamp) -> Step {
        let is_last = standing.wave >= standing.wave_count;
        let is_anything_left = standing.held > 0 || !is_last;
        if !is_anything_left {
            // What is in flight ends by itself, and the job with it.
            return Step::Wait;
        }
        let budget = self.budget(standing.agents);
        if let Some(budget) = budget
            && standing.failures > budget
        {
            return Step::Halt(Halt::Budget { failures: standing.failures, budget });
        }
        if standing.held > 0 {
            return match self.window(budget, standing).min(standing.held) {
                0 => Step::Wait,
                count => Step::Release(count),
            };
        }
        if standing.in_flight > 0 {
            return Step::Wait;
        }
        if !standing.has_begun {
            // All of it went last or was left out: there is nothing to pause for.
            return Step::NextWave;
        }
        self.between_waves(standing, now)
    }

    /// How many executions may start now.
    fn window(&self, budget: Option<u64>, standing: &Standing<'_>) -> u64 {
        match budget {
            Some(budget) if self.counts_in_flight => {
                // One more than may fail: with that one it halts.
                (budget + 1).saturating_sub(standing.failures + standing.in_flight)
            }
            _ => u64::MAX,
        }
    }

    fn between_waves(&self, standing: &Standing<'_>, now: Timestamp) -> Step {
        let Some(ended_at) = standing.ended_at else { return Step::EndWave };
        if standing.is_waived {
            return Step::NextWave;
        }
        let rested_at = ended_at.plus_ms(self.pause_ms);
        if now < rested_at {
            return Step::WaitUntil(rested_at);
        }
        let Some(gate) = &self.gate else { return Step::NextWave };
        let waits_since = Ord::max(rested_at, standing.waits_since);
        match gate.judge(standing.health, ended_at, waits_since, now) {
            Verdict::Open => Step::NextWave,
            Verdict::Closed { look_at } => Step::WaitUntil(look_at),
            Verdict::TooLate { unwell } => {
                let (wave, within_ms) = (standing.wave, gate.within_ms);
                Step::Halt(Halt::Gate { wave, unwell, within_ms })
            }
        }
    }
}
