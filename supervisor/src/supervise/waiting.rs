//! Rests: between two starts, parked, and until a signal or a chore.
//!
//! Every wait of the supervisor ends here, so that no chore waits for another.

use std::time::{Duration, Instant};

use super::{Finish, Outcome, SuperviseError, Supervisor};
use crate::platform::Request;

impl Supervisor {
    pub(super) fn pause(
        &mut self,
        delay: Duration,
        why: &str,
    ) -> Result<Outcome<()>, SuperviseError> {
        let until = Instant::now() + delay;
        self.log.info(format_args!("{why}; starting it again in {} ms", delay.as_millis()));
        self.board.waiting(delay, why);
        loop {
            if let Some(request) = self.take_stop() {
                return Ok(Outcome::StopAsked(request));
            }
            self.host.reap();
            if until <= Instant::now() {
                return Ok(Outcome::Came(()));
            }
            self.rest(Some(until))?;
        }
    }

    /// The agent is not to be started again: parks or ends.
    pub(super) fn settle(&mut self, code: i32, reason: String) -> Result<Finish, SuperviseError> {
        match code {
            0 => self.log.info(&reason),
            _ => self.log.error(&reason),
        }
        if !self.settings.park {
            self.board.stopped(reason);
            return Ok(Finish::Exit(code));
        }
        self.log.warn("parked: staying without an agent until asked to stop");
        self.board.parked(reason);
        loop {
            if let Some(request) = self.take_stop() {
                return Ok(self.stopped_by(request));
            }
            self.host.reap();
            self.rest(None)?;
        }
    }

    pub(super) fn stopped_by(&mut self, request: Request) -> Finish {
        self.log.info(format_args!("stopped by {}", request.name()));
        self.board.stopped(format!("stopped by {}", request.name()));
        Finish::Exit(0)
    }

    pub(super) fn take_stop(&self) -> Option<Request> {
        std::iter::from_fn(|| self.host.take_request()).find(|request| self.stops(*request))
    }

    pub(super) fn stops(&self, request: Request) -> bool {
        request != Request::HangUp || self.hangup_stops
    }

    /// Rests until a signal, `deadline` or a chore; the callers look again at what they wait for.
    pub(super) fn rest(&mut self, deadline: Option<Instant>) -> Result<(), SuperviseError> {
        if self.board.retry_at().is_some_and(|at| at <= Instant::now()) {
            self.board.retry();
        }
        if self.updating.retry_at().is_some_and(|at| at <= Instant::now()) {
            self.finish();
        }
        if self.watchdog_interval.is_some() {
            self.board.feed_watchdog();
        }
        let now = Instant::now();
        let until = [deadline, self.board.retry_at(), self.updating.retry_at()]
            .into_iter()
            .flatten()
            .map(|at| at.saturating_duration_since(now))
            .chain(self.watchdog_interval)
            .min();
        self.host.wait(until).map_err(SuperviseError::Wait)
    }
}
