//! Publishes what the supervisor is doing: to `supervisor.json` and to the service manager.
//!
//! Knows no processes and decides nothing. A reader that can't be reached is never fatal.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use chrono::Utc;

use crate::log::{Log, chain};
use crate::notify::Notifier;
use crate::policy::End;
use crate::state_file::{self, LastExit, Report, State};

/// On a first start the agent makes its state directory a moment after our first report.
const FIRST_RETRY: Duration = Duration::from_secs(5);
const MAX_RETRY: Duration = Duration::from_secs(3600);

/// The latest report and who gets it.
#[derive(Debug)]
pub struct Board {
    state_dir: PathBuf,
    log: Log,
    notifier: Notifier,
    report: Report,
    ready: bool,
    failing: Option<Retry>,
}

#[derive(Debug, Clone, Copy)]
struct Retry {
    at: Instant,
    after: Duration,
}

impl Board {
    /// Nothing is published yet.
    pub fn new(state_dir: PathBuf, notifier: Notifier, log: Log) -> Self {
        let report = Report {
            version: muster_protocol::version::own(),
            pid: std::process::id(),
            agent_pid: None,
            state: State::Waiting,
            since: Utc::now(),
            last_exit: None,
            reason: String::new(),
            restarts: 0,
            next_start_in_ms: None,
        };
        Self { state_dir, log, notifier, report, ready: false, failing: None }
    }

    /// An agent was started.
    pub fn running(&mut self, agent_pid: u32, reason: impl Into<String>) {
        self.report.agent_pid = Some(agent_pid);
        self.publish(State::Running, reason.into(), None);
        if !self.ready {
            self.ready = true;
            self.notifier.send("READY=1");
        }
    }

    /// The agent has ended, or could not be started; what follows is yet to be decided.
    pub fn ended(&mut self, end: End) {
        self.report.agent_pid = None;
        self.report.last_exit = Some(LastExit::new(end, Utc::now()));
    }

    /// The next start comes after `delay`.
    pub fn waiting(&mut self, delay: Duration, reason: impl Into<String>) {
        self.report.restarts += 1;
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.publish(State::Waiting, reason.into(), Some(delay_ms));
    }

    /// Another version is being fetched.
    pub fn updating(&mut self, reason: impl Into<String>) {
        self.publish(State::Updating, reason.into(), None);
    }

    /// The agent stays stopped and the supervisor stays.
    pub fn parked(&mut self, reason: impl Into<String>) {
        self.publish(State::Parked, reason.into(), None);
    }

    /// The supervisor is about to stop, once the agent has.
    pub fn stopping(&self) {
        self.notifier.send("STOPPING=1\nSTATUS=waiting for the agent to stop");
    }

    /// The supervisor ends.
    pub fn stopped(&mut self, reason: impl Into<String>) {
        self.publish(State::Stopped, reason.into(), None);
        self.notifier.send("STOPPING=1");
    }

    /// Tells the service manager that the supervisor is alive.
    pub fn feed_watchdog(&self) {
        self.notifier.send("WATCHDOG=1");
    }

    /// When to call [`Board::retry`], if at all.
    pub fn retry_at(&self) -> Option<Instant> {
        self.failing.map(|retry| retry.at)
    }

    /// Tries again to write a report that could not be written.
    pub fn retry(&mut self) {
        self.write();
    }

    fn publish(&mut self, state: State, reason: String, next_start_in_ms: Option<u64>) {
        self.report.state = state;
        self.report.since = Utc::now();
        self.report.next_start_in_ms = next_start_in_ms;
        self.report.reason = reason;
        self.notifier.send(&format!("STATUS={}", self.report.reason));
        self.write();
    }

    fn write(&mut self) {
        let Err(error) = state_file::write(&self.state_dir, &self.report) else {
            self.failing = None;
            return;
        };
        // One line for a row of failures, or a read-only directory would fill the log.
        let after = match self.failing {
            Some(retry) => (retry.after * 4).min(MAX_RETRY),
            None => {
                self.log.warn(format_args!("state not recorded: failed to {}", chain(&error)));
                FIRST_RETRY
            }
        };
        self.failing = Some(Retry { at: Instant::now() + after, after });
    }
}
