//! What the main loop knows about updates, and how its waits end.

use std::path::PathBuf;
use std::time::Instant;

use muster_protocol::release::UpdateResult;

use crate::platform::ForwardedSignal;
use crate::policy::{ProcessExit, RestartBackoff};
use crate::update::{TrialRecord, UpdateManager};

/// Why the supervisor itself can't continue.
#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    /// Waiting for signals failed.
    #[error("failed to wait for the agent")]
    Wait(#[source] std::io::Error),
}

/// How a run of the supervisor ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finish {
    /// Exit with this code: 0, or 99 if the agent can't work as configured.
    Exit(i32),
    /// Replace this process by this supervisor: the one on trial, or the current one.
    Exec(PathBuf),
}

/// How an interruptible step ended.
pub(super) enum Interruptible<T> {
    /// The step ended.
    Done(T),
    /// A stop signal came first and was handled.
    StopRequested(ForwardedSignal),
}

/// Why the supervisor stopped watching the agent.
pub(super) enum WatchEnd {
    AgentEnded(ProcessExit),
    StopRequested(ForwardedSignal),
    /// The version on trial did not register in time, and its agent was stopped.
    TrialTimedOut,
}

/// The state of a trial while its agent runs.
pub(super) enum TrialCheck {
    /// Undecided: check again at this time.
    CheckAt(Instant),
    /// The version on trial did not register in time.
    TimedOut,
}

/// A trial and what this supervisor has observed of it.
#[derive(Debug)]
pub(super) struct ActiveTrial {
    pub(super) trial: TrialRecord,
    /// When the current phase times out.
    pub(super) deadline: Instant,
    /// Agents that ended without registering.
    pub(super) failures: u32,
    /// The file on disk equals `trial`.
    pub(super) is_saved: bool,
    /// The agent's status file was removed before the current agent started, so that a session in it
    /// is the current agent's.
    pub(super) is_status_current: bool,
}

/// Results that are decided and not on disk yet.
#[derive(Debug, Default)]
pub(super) struct PendingWrites {
    /// The result of a request that led to no trial.
    pub(super) result: Option<UpdateResult>,
    /// When to try again.
    pub(super) retry_at: Option<Instant>,
}

/// Everything that the supervisor knows about versions.
#[derive(Debug)]
pub struct UpdateState {
    /// The installed versions, if this installation can be updated.
    pub(super) updates: Option<UpdateManager>,
    pub(super) trial: Option<ActiveTrial>,
    pub(super) pending: PendingWrites,
    /// Delays between attempts to write what is pending.
    pub(super) retries: RestartBackoff,
    /// Another supervisor must take over: the one on trial, or the current one.
    pub(super) should_exec: bool,
}

impl UpdateState {
    /// Starts without a trial. `retries` spaces attempts to write pending results.
    pub fn new(updates: Option<UpdateManager>, retries: RestartBackoff) -> Self {
        let pending = PendingWrites::default();
        Self { updates, trial: None, pending, retries, should_exec: false }
    }

    /// True if another version can be installed here.
    pub(super) fn is_available(&self) -> bool {
        self.updates.is_some()
    }

    /// True while the agent must wait for the result of its request.
    pub(super) fn is_result_pending(&self) -> bool {
        self.trial.is_some() || self.pending.result.is_some()
    }

    /// When to retry pending writes.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.pending.retry_at
    }
}
