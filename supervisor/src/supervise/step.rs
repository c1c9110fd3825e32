//! One program that is run for an update: to its end, within bounds.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Outcome, SuperviseError, Supervisor};
use crate::policy::End;

impl Supervisor {
    /// Runs a program to its end, within bounds; passes a request to stop on to it.
    pub(super) fn step(
        &mut self,
        command: &mut Command,
        limit: Duration,
    ) -> Result<Outcome<End>, SuperviseError> {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        if let Some(Ok(stderr)) = self.log_file.as_ref().map(crate::log_file::LogFile::stdio) {
            command.stderr(stderr);
        }
        if let Err(error) = self.host.start_agent(command) {
            self.log.warn(format_args!("failed to start a step of the update: {error}"));
            return Ok(Outcome::Came(End::NotStarted));
        }
        let until = Instant::now() + limit;
        let mut stop_asked = None;
        loop {
            if let Some(request) = self.take_stop().filter(|_| stop_asked.is_none()) {
                // What is half done is gone on with, or thrown away, by the next one.
                self.host.kill_agent();
                stop_asked = Some(request);
            }
            if let Some(end) = self.host.reap() {
                return Ok(match stop_asked {
                    Some(request) => Outcome::StopAsked(request),
                    None => Outcome::Came(end),
                });
            }
            if until <= Instant::now() {
                self.host.kill_agent();
                self.rest(None)?;
                continue;
            }
            self.rest(Some(until))?;
        }
    }
}
