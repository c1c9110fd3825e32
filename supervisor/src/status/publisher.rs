//! Publishes the supervisor's status to `supervisor.json` and to the service manager.
//!
//! Decides nothing. A failed write or message is never fatal.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use chrono::Utc;

use super::file::{self, LastExit, State, StatusReport};
use super::service_manager::ServiceManager;
use crate::log::Log;
use crate::policy::ProcessExit;
use muster_protocol::error_chain;

/// On a first start the agent creates its state directory shortly after the first status.
const FIRST_RETRY: Duration = Duration::from_secs(5);
const MAX_RETRY: Duration = Duration::from_secs(3600);

/// The latest status and where it is published.
#[derive(Debug)]
pub struct StatusPublisher {
    state_dir: PathBuf,
    log: Log,
    service_manager: ServiceManager,
    report: StatusReport,
    ready: bool,
    failing: Option<Retry>,
}

#[derive(Debug, Clone, Copy)]
struct Retry {
    at: Instant,
    after: Duration,
}

impl StatusPublisher {
    /// Publishes nothing yet.
    pub fn new(state_dir: PathBuf, service_manager: ServiceManager, log: Log) -> Self {
        let report = StatusReport {
            version: muster_protocol::program::version::own(),
            pid: std::process::id(),
            agent_pid: None,
            state: State::Waiting,
            since: Utc::now(),
            last_exit: None,
            reason: String::new(),
            restarts: 0,
            next_start_in_ms: None,
        };
        Self { state_dir, log, service_manager, report, ready: false, failing: None }
    }

    /// The agent was started.
    pub fn running(&mut self, agent_pid: u32, reason: impl Into<String>) {
        self.report.agent_pid = Some(agent_pid);
        self.publish(State::Running, reason.into(), None);
        if !self.ready {
            self.ready = true;
            self.service_manager.send("READY=1");
        }
    }

    /// The agent ended, or could not be started.
    pub fn ended(&mut self, end: ProcessExit) {
        self.report.agent_pid = None;
        self.report.last_exit = Some(LastExit::new(end, Utc::now()));
    }

    /// The agent is restarted after `delay`.
    pub fn waiting(&mut self, delay: Duration, reason: impl Into<String>) {
        self.report.restarts += 1;
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.publish(State::Waiting, reason.into(), Some(delay_ms));
    }

    /// Another version is being downloaded.
    pub fn updating(&mut self, reason: impl Into<String>) {
        self.publish(State::Updating, reason.into(), None);
    }

    /// The agent stays stopped and the supervisor waits for a stop signal.
    pub fn parked(&mut self, reason: impl Into<String>) {
        self.publish(State::Parked, reason.into(), None);
    }

    /// The supervisor stops as soon as the agent has.
    pub fn stopping(&self) {
        self.service_manager.send("STOPPING=1\nSTATUS=waiting for the agent to stop");
    }

    /// The supervisor stops now.
    pub fn stopped(&mut self, reason: impl Into<String>) {
        self.publish(State::Stopped, reason.into(), None);
        self.service_manager.send("STOPPING=1");
    }

    /// Pings the service manager's watchdog.
    pub fn ping_watchdog(&self) {
        self.service_manager.send("WATCHDOG=1");
    }

    /// When to call [`StatusPublisher::retry`], if necessary.
    pub fn retry_at(&self) -> Option<Instant> {
        self.failing.map(|retry| retry.at)
    }

    /// Retries a write that failed.
    pub fn retry(&mut self) {
        self.write();
    }

    fn publish(&mut self, state: State, reason: String, next_start_in_ms: Option<u64>) {
        self.report.state = state;
        self.report.since = Utc::now();
        self.report.next_start_in_ms = next_start_in_ms;
        self.report.reason = reason;
        self.service_manager.send(&format!("STATUS={}", self.report.reason));
        self.write();
    }

    fn write(&mut self) {
        let Err(error) = file::write(&self.state_dir, &self.report) else {
            self.failing = None;
            return;
        };
        // Logs only the first of a series of failures, so that a read-only directory does not fill
        // the log.
        let after = match self.failing {
            Some(retry) => (retry.after * 4).min(MAX_RETRY),
            None => {
                self.log.warn(format_args!("status not recorded: {}", error_chain(&error)));
                FIRST_RETRY
            }
        };
        self.failing = Some(Retry { at: Instant::now() + after, after });
    }
}
