//! Runs a helper program (a download, a self-test) to its end, within a time limit.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::state::{Interruptible, SuperviseError};
use super::supervisor::Supervisor;
use crate::policy::ProcessExit;

impl Supervisor {
    /// Runs a program to its end and kills it after `limit`. A stop signal kills it at once.
    pub(super) fn run_helper(
        &mut self,
        command: &mut Command,
        limit: Duration,
    ) -> Result<Interruptible<ProcessExit>, SuperviseError> {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        if let Some(Ok(stderr)) = self.log_file.as_ref().map(crate::log::LogFile::stdio) {
            command.stderr(stderr);
        }
        if let Err(error) = self.processes.start_agent(command) {
            self.log.warn(format_args!("failed to start a helper program of the update: {error}"));
            return Ok(Interruptible::Done(ProcessExit::NotStarted));
        }
        let until = Instant::now() + limit;
        let mut stop_signal = None;
        loop {
            if let Some(request) = self.take_stop_signal().filter(|_| stop_signal.is_none()) {
                // The next update resumes or discards what is half done.
                self.processes.kill_agent();
                stop_signal = Some(request);
            }
            if let Some(end) = self.processes.reap() {
                return Ok(match stop_signal {
                    Some(request) => Interruptible::StopRequested(request),
                    None => Interruptible::Done(end),
                });
            }
            if until <= Instant::now() {
                self.processes.kill_agent();
                self.wait_until(None)?;
                continue;
            }
            self.wait_until(Some(until))?;
        }
    }
}
