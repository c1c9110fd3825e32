//! Checks whether a service works while it runs.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::Child;
use std::time::{Duration, Instant};

use muster_protocol::package::{HealthCheck, ServiceHealth};

use super::Execution;
use crate::executions::ledger::record::ServiceStatus;
use crate::platform::{self, Signal};

/// How often a check that takes too long is killed.
const KILL_INTERVAL: Duration = Duration::from_secs(1);
/// Poll interval on systems where the end of a check can't be waited for.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Starts a check.
pub type CheckStarter<'a> = Box<dyn Fn() -> io::Result<Child> + 'a>;

/// Runs the check of a service, one at a time.
pub struct HealthMonitor<'a> {
    execution: &'a Execution,
    check: &'a HealthCheck,
    start: CheckStarter<'a>,
    next_at: Instant,
    running: Option<RunningCheck>,
    failures: u32,
    health: ServiceHealth,
}

#[derive(Debug)]
struct RunningCheck {
    pid: u32,
    /// Readable once it has ended.
    process: Option<OwnedFd>,
    until: Instant,
}

impl<'a> HealthMonitor<'a> {
    pub fn new(execution: &'a Execution, check: &'a HealthCheck, start: CheckStarter<'a>) -> Self {
        Self {
            execution,
            check,
            start,
            next_at: Instant::now() + Duration::from_millis(check.interval_ms),
            running: None,
            failures: 0,
            health: ServiceHealth::Unknown,
        }
    }

    /// Starts a check that is due, and kills one that takes too long.
    pub fn advance(&mut self) {
        let now = Instant::now();
        match &mut self.running {
            Some(running) if now >= running.until => {
                // Its end is a failure.
                platform::signal_group(running.pid, Signal::Kill);
                running.until = now + KILL_INTERVAL;
            }
            None if now >= self.next_at => {
                self.next_at = now + Duration::from_millis(self.check.interval_ms);
                match (self.start)() {
                    Ok(child) => {
                        let until = now + Duration::from_millis(self.check.timeout_ms);
                        let process = platform::open_process(child.id()).ok();
                        self.running = Some(RunningCheck { pid: child.id(), process, until });
                    }
                    Err(error) => {
                        self.execution.log.line(format_args!("a check was not started: {error}"));
                        self.note(false);
                    }
                }
            }
            Some(_) | None => {}
        }
    }

    /// A child has ended, which may be the check.
    pub fn handle_exit(&mut self, pid: u32, is_success: bool) {
        if self.running.as_ref().is_some_and(|running| running.pid == pid) {
            // What it has left in its group would add up with every check.
            platform::signal_group(pid, Signal::Kill);
            self.running = None;
            self.note(is_success);
        }
    }

    /// True once too many checks in a row have failed.
    pub fn is_unhealthy(&self) -> bool {
        self.failures >= self.check.failures
    }

    /// When [`Self::advance`] has something to do.
    pub fn next_at(&self) -> Instant {
        match &self.running {
            None => self.next_at,
            Some(RunningCheck { process: None, .. }) => Instant::now() + POLL_INTERVAL,
            Some(running) => running.until,
        }
    }

    /// Readable once the check that runs has ended.
    pub fn process(&self) -> Option<BorrowedFd<'_>> {
        self.running.as_ref()?.process.as_ref().map(|process| process.as_fd())
    }

    fn note(&mut self, is_success: bool) {
        self.failures = if is_success { 0 } else { self.failures.saturating_add(1) };
        let health = if is_success { ServiceHealth::Healthy } else { ServiceHealth::Failing };
        if health != self.health {
            self.health = health;
            let limits = self.execution.limits;
            self.execution.write_status(ServiceStatus { health: Some(health), limits });
        }
    }
}
