//! What to do when the agent has ended: a pure function from (end, history, now) to a decision.
//!
//! Knows no processes, no files and no clock; time is passed in and randomness is drawn by
//! [`Pacer`], after the decision.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use muster_protocol::ExitCode;
use muster_protocol::backoff::Delays;

/// This many planned restarts (42, 43, 44) within [`PLANNED_WINDOW`] may be immediate; the next
/// one is a loop, not a wish, and waits like a crash.
pub const PLANNED_AT_ONCE: usize = 5;
/// See [`PLANNED_AT_ONCE`].
pub const PLANNED_WINDOW: Duration = Duration::from_secs(10);

/// How one run of the agent came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The process ended by itself, with this code.
    Exited(i32),
    /// A signal of this number ended the process.
    Signalled(i32),
    /// There was no process: it could not be started.
    NotStarted,
}

/// Which release the agent asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetch {
    /// The one that this host should be on (43).
    Wanted,
    /// The one that it is on, downloaded again (44).
    CurrentAfresh,
}

/// Why the agent is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It asked to be restarted (42).
    Asked,
    /// It asked for a release first (43, 44).
    Release(Fetch),
    /// It ended in a way that nobody asked for.
    Crash,
}

/// How soon the agent is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// At once.
    Now,
    /// After the next delay of the backoff.
    Backoff,
}

/// What follows from an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Stay stopped; it was wanted (0).
    Stop,
    /// Stay stopped; it can't work as configured (99).
    Fatal,
    /// Start again.
    Start {
        /// Why.
        cause: Cause,
        /// How soon.
        pace: Pace,
        /// Whether the run was healthy, so that the backoff begins anew.
        healthy: bool,
    },
}

/// What the policy has to remember of earlier runs. Bounded.
#[derive(Debug, Clone)]
pub struct History {
    healthy_after: Duration,
    started_at: Option<Instant>,
    planned_at: VecDeque<Instant>,
    looping: bool,
}

impl History {
    /// A run counts as healthy once it has lasted for `healthy_after`.
    pub fn new(healthy_after: Duration) -> Self {
        Self { healthy_after, started_at: None, planned_at: VecDeque::new(), looping: false }
    }

    /// Notes that an agent was started at `now`.
    pub fn record_start(&mut self, now: Instant) {
        self.started_at = Some(now);
    }

    /// Notes what was decided at `now`, so that the next decision can know of it.
    pub fn record_decision(&mut self, decision: Decision, now: Instant) {
        self.started_at = None;
        let Decision::Start { cause, pace, healthy } = decision else { return };
        if healthy {
            self.looping = false;
            self.planned_at.clear();
        }
        if cause != Cause::Crash {
            self.looping |= pace == Pace::Backoff;
            self.planned_at.push_back(now);
            while self.planned_at.len() > PLANNED_AT_ONCE {
                self.planned_at.pop_front();
            }
        }
    }

    fn was_healthy(&self, now: Instant) -> bool {
        self.started_at
            .is_some_and(|started| now.saturating_duration_since(started) >= self.healthy_after)
    }

    fn planned_pace(&self, healthy: bool, now: Instant) -> Pace {
        let recent = self
            .planned_at
            .iter()
            .filter(|at| now.saturating_duration_since(**at) < PLANNED_WINDOW)
            .count();
        // Once looping, only a healthy run ends it: a window alone would let bursts through again.
        if healthy || !(self.looping || recent >= PLANNED_AT_ONCE) {
            Pace::Now
        } else {
            Pace::Backoff
        }
    }
}

/// Decides what follows when a run ended at `now`.
pub fn decide(end: End, history: &History, now: Instant) -> Decision {
    let healthy = history.was_healthy(now);
    let code = match end {
        End::Exited(code) => ExitCode::from_code(code),
        End::Signalled(_) | End::NotStarted => None,
    };
    let cause = match code {
        Some(ExitCode::Stop) => return Decision::Stop,
        Some(ExitCode::Fatal) => return Decision::Fatal,
        Some(ExitCode::Restart) => Cause::Asked,
        Some(ExitCode::Update) => Cause::Release(Fetch::Wanted),
        Some(ExitCode::Redeploy) => Cause::Release(Fetch::CurrentAfresh),
        None => Cause::Crash,
    };
    let pace = match cause {
        Cause::Crash => Pace::Backoff,
        Cause::Asked | Cause::Release(_) => history.planned_pace(healthy, now),
    };
    Decision::Start { cause, pace, healthy }
}

/// Turns a pace into a delay; the only holder of the backoff's state.
#[derive(Debug)]
pub struct Pacer {
    delays: Delays,
}

impl Pacer {
    /// Draws from `delays`.
    pub fn new(delays: Delays) -> Self {
        Self { delays }
    }

    /// Begins anew, after something worked.
    pub fn reset(&mut self) {
        self.delays.reset();
    }

    /// How long to wait before the start that was decided on.
    pub fn delay(&mut self, pace: Pace, healthy: bool) -> Duration {
        if healthy {
            self.delays.reset();
        }
        match pace {
            Pace::Now => Duration::ZERO,
            Pace::Backoff => self.delays.next_delay(),
        }
    }
}
