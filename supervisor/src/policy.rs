//! The restart policy: a pure function from (exit, history, now) to a decision.
//!
//! Does not know processes, files or the clock: time is passed in, and [`RestartBackoff`] draws
//! random delays after the decision.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use muster_protocol::ExitCode;
use muster_protocol::program::backoff::Delays;

/// This many requested restarts (42, 43, 44) within [`IMMEDIATE_RESTART_WINDOW`] are immediate.
/// More are a loop and wait like a crash.
pub const MAX_IMMEDIATE_RESTARTS: usize = 5;
/// See [`MAX_IMMEDIATE_RESTARTS`].
pub const IMMEDIATE_RESTART_WINDOW: Duration = Duration::from_secs(10);

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessExit {
    /// The process exited with this code.
    Exited(i32),
    /// A signal with this number killed the process.
    Signalled(i32),
    /// The process could not be started.
    NotStarted,
}

/// Which release the agent requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReleaseRequest {
    /// The version in its update request (43).
    Desired,
    /// The current version, downloaded again (44).
    Reinstall,
}

/// Why the agent is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It requested a restart (42).
    RestartRequested,
    /// It requested a release first (43, 44).
    ReleaseRequested(ReleaseRequest),
    /// It ended unexpectedly.
    Crash,
}

/// When the agent is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartDelay {
    /// Immediately.
    Immediate,
    /// After the next delay of the backoff.
    Backoff,
}

/// What the supervisor does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Stay stopped, as requested (0).
    Stop,
    /// Stay stopped; it can't work as configured (99).
    Fatal,
    /// Restart the agent.
    Start {
        /// Why.
        cause: Cause,
        /// When.
        delay: RestartDelay,
        /// True if the run was healthy, which resets the backoff.
        healthy: bool,
    },
}

/// What the policy remembers of earlier runs. Bounded.
#[derive(Debug, Clone)]
pub struct RestartHistory {
    healthy_after: Duration,
    started_at: Option<Instant>,
    planned_at: VecDeque<Instant>,
    looping: bool,
}

impl RestartHistory {
    /// A run counts as healthy once it has lasted for `healthy_after`.
    pub fn new(healthy_after: Duration) -> Self {
        Self { healthy_after, started_at: None, planned_at: VecDeque::new(), looping: false }
    }

    /// Records that the agent was started at `now`.
    pub fn record_start(&mut self, now: Instant) {
        self.started_at = Some(now);
    }

    /// Records a decision made at `now`, for the next decision.
    pub fn record_decision(&mut self, decision: Decision, now: Instant) {
        self.started_at = None;
        let Decision::Start { cause, delay, healthy } = decision else { return };
        if healthy {
            self.looping = false;
            self.planned_at.clear();
        }
        if cause != Cause::Crash {
            self.looping |= delay == RestartDelay::Backoff;
            self.planned_at.push_back(now);
            while self.planned_at.len() > MAX_IMMEDIATE_RESTARTS {
                self.planned_at.pop_front();
            }
        }
    }

    fn was_healthy(&self, now: Instant) -> bool {
        self.started_at
            .is_some_and(|started| now.saturating_duration_since(started) >= self.healthy_after)
    }

    fn planned_restart_delay(&self, healthy: bool, now: Instant) -> RestartDelay {
        let recent = self
            .planned_at
            .iter()
            .filter(|at| now.saturating_duration_since(**at) < IMMEDIATE_RESTART_WINDOW)
            .count();
        // Only a healthy run ends a loop: a time window alone would allow bursts again.
        if healthy || !(self.looping || recent >= MAX_IMMEDIATE_RESTARTS) {
            RestartDelay::Immediate
        } else {
            RestartDelay::Backoff
        }
    }
}

/// Decides what to do after a run that ended at `now`.
pub fn decide(end: ProcessExit, history: &RestartHistory, now: Instant) -> Decision {
    let healthy = history.was_healthy(now);
    let code = match end {
        ProcessExit::Exited(code) => ExitCode::from_code(code),
        ProcessExit::Signalled(_) | ProcessExit::NotStarted => None,
    };
    let cause = match code {
        Some(ExitCode::Stop) => return Decision::Stop,
        Some(ExitCode::Fatal) => return Decision::Fatal,
        Some(ExitCode::Restart) => Cause::RestartRequested,
        Some(ExitCode::Update) => Cause::ReleaseRequested(ReleaseRequest::Desired),
        Some(ExitCode::Redeploy) => Cause::ReleaseRequested(ReleaseRequest::Reinstall),
        None => Cause::Crash,
    };
    let delay = match cause {
        Cause::Crash => RestartDelay::Backoff,
        Cause::RestartRequested | Cause::ReleaseRequested(_) => {
            history.planned_restart_delay(healthy, now)
        }
    };
    Decision::Start { cause, delay, healthy }
}

/// Draws restart delays; the only owner of the backoff's state.
#[derive(Debug)]
pub struct RestartBackoff {
    delays: Delays,
}

impl RestartBackoff {
    /// Draws from `delays`.
    pub fn new(delays: Delays) -> Self {
        Self { delays }
    }

    /// Resets the backoff after a success.
    pub fn reset(&mut self) {
        self.delays.reset();
    }

    /// How long to wait before the restart.
    pub fn delay(&mut self, delay: RestartDelay, healthy: bool) -> Duration {
        if healthy {
            self.delays.reset();
        }
        match delay {
            RestartDelay::Immediate => Duration::ZERO,
            RestartDelay::Backoff => self.delays.next_delay(),
        }
    }
}
