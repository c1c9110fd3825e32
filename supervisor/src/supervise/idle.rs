//! Waits: before a restart, while parked, and for signals.
//!
//! Every wait goes through [`Supervisor::wait_until`], which also does the periodic work (pending
//! writes, the service manager's watchdog), so that no wait delays it.

use std::time::{Duration, Instant};

use super::state::{Finish, Interruptible, SuperviseError};
use super::supervisor::Supervisor;
use crate::platform::ForwardedSignal;

impl Supervisor {
    pub(super) fn wait_before_restart(
        &mut self,
        delay: Duration,
        why: &str,
    ) -> Result<Interruptible<()>, SuperviseError> {
        let until = Instant::now() + delay;
        self.log.info(format_args!("{why}; restarting in {} ms", delay.as_millis()));
        self.status.waiting(delay, why);
        loop {
            if let Some(request) = self.take_stop_signal() {
                return Ok(Interruptible::StopRequested(request));
            }
            self.processes.reap();
            if until <= Instant::now() {
                return Ok(Interruptible::Done(()));
            }
            self.wait_until(Some(until))?;
        }
    }

    /// The agent must not be restarted: parks until a stop signal, or exits.
    pub(super) fn park_or_exit(
        &mut self,
        code: i32,
        reason: String,
    ) -> Result<Finish, SuperviseError> {
        match code {
            0 => self.log.info(&reason),
            _ => self.log.error(&reason),
        }
        if !self.settings.park {
            self.status.stopped(reason);
            return Ok(Finish::Exit(code));
        }
        self.log.warn("parked: waiting for a stop signal, without an agent");
        self.status.parked(reason);
        loop {
            if let Some(request) = self.take_stop_signal() {
                return Ok(self.stopped_by(request));
            }
            self.processes.reap();
            self.wait_until(None)?;
        }
    }

    pub(super) fn stopped_by(&mut self, request: ForwardedSignal) -> Finish {
        self.log.info(format_args!("stopped by {}", request.name()));
        self.status.stopped(format!("stopped by {}", request.name()));
        Finish::Exit(0)
    }

    pub(super) fn take_stop_signal(&self) -> Option<ForwardedSignal> {
        std::iter::from_fn(|| self.processes.take_request()).find(|request| self.is_stop(*request))
    }

    pub(super) fn is_stop(&self, request: ForwardedSignal) -> bool {
        request != ForwardedSignal::HangUp || self.hangup_stops
    }

    /// Waits until a signal, `deadline` or the next periodic work. May return early; callers check
    /// their own condition again.
    pub(super) fn wait_until(&mut self, deadline: Option<Instant>) -> Result<(), SuperviseError> {
        if self.status.retry_at().is_some_and(|at| at <= Instant::now()) {
            self.status.retry();
        }
        if self.update_state.retry_at().is_some_and(|at| at <= Instant::now()) {
            self.flush();
        }
        if self.watchdog_interval.is_some() {
            self.status.ping_watchdog();
        }
        let now = Instant::now();
        let until = [deadline, self.status.retry_at(), self.update_state.retry_at()]
            .into_iter()
            .flatten()
            .map(|at| at.saturating_duration_since(now))
            .chain(self.watchdog_interval)
            .min();
        self.processes.wait(until).map_err(SuperviseError::Wait)
    }
}
