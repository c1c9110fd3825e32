//! Checks whether a service works while it runs.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use muster_protocol::package::{HealthCheck, ServiceHealth};

use super::steps::Found;
use super::{Execution, supervise, verify};
use crate::executions::ledger::record::ServiceStatus;
use crate::executions::program::Program;
use crate::platform::{self, Signal};

/// How often a check that takes too long is killed.
const KILL_INTERVAL: Duration = Duration::from_secs(1);
/// Poll interval on systems where the end of a check can't be waited for.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Runs the check of a service, one at a time.
pub struct HealthMonitor<'a> {
    execution: &'a Execution,
    found: &'a Found,
    check: &'a HealthCheck,
    /// `None` if the package has no such file.
    program: Option<Program>,
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
    /// The monitor of a service with a check. The check is started as the service is.
    pub fn of(execution: &'a Execution, found: &'a Found, service: &Program) -> Option<Self> {
        let check = execution.launch.service.as_ref()?.health.as_ref()?;
        let folder = execution.dir.package();
        let entry = verify::package_entry(folder.as_deref(), &check.entry).ok();
        let program = entry.map(|entry| {
            let (path, mut arguments) = match &found.interpreter {
                Some(interpreter) => (interpreter.clone(), vec![entry.into_os_string()]),
                None => (entry, Vec::new()),
            };
            arguments.extend(check.argv.iter().map(Into::into));
            Program { path, name: None, arguments, stdin: None, ..service.clone() }
        });
        Some(Self {
            execution,
            found,
            check,
            program,
            next_at: Instant::now() + Duration::from_millis(check.interval_ms),
            running: None,
            failures: 0,
            health: ServiceHealth::Unknown,
        })
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
                let account = self.found.account.as_ref();
                let started = self
                    .program
                    .as_ref()
                    .map(|program| supervise::spawn_silent(self.execution, program, account));
                match started {
                    Some(Ok(child)) => {
                        let until = now + Duration::from_millis(self.check.timeout_ms);
                        let process = platform::open_process(child.id()).ok();
                        self.running = Some(RunningCheck { pid: child.id(), process, until });
                    }
                    Some(Err(error)) => {
                        self.execution.log.line(format_args!("a check was not started: {error}"));
                        self.note(false);
                    }
                    None => self.note(false),
                }
            }
            Some(_) | None => {}
        }
    }

    /// A child has ended, which may be the check.
    pub fn handle_exit(&mut self, pid: u32, is_success: bool) {
        if self.running.as_ref().is_some_and(|running| running.pid == pid) {
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
