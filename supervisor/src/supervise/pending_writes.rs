//! Writes decisions to disk and results for the agent; retries while the disk refuses them.
//!
//! Decides nothing. Meanwhile the agent runs in the version that was decided on.

use std::time::Instant;

use muster_protocol::release::{UpdateOutcome, UpdateRequest};

use super::supervisor::Supervisor;
use crate::fault_injection::CrashPoint;
use crate::policy::RestartDelay;
use crate::update::FileError;
use muster_protocol::error_chain;

impl Supervisor {
    /// Ends a request that led to no trial with a result.
    pub(super) fn finish_request(
        &mut self,
        request: &UpdateRequest,
        outcome: UpdateOutcome,
        code: Option<&str>,
        message: String,
    ) {
        let Some(updates) = &self.update_state.updates else { return };
        let name = outcome.as_str();
        self.log.info(format_args!("update to {}: {name}: {message}", request.version));
        self.update_state.pending.result = Some(updates.result(request, outcome, code, message));
        self.flush();
    }

    /// Writes everything that is pending, and schedules a retry if the disk refuses it.
    pub(super) fn flush(&mut self) {
        let Err(error) = self.write_pending_result().and_then(|()| self.write_pending_trial())
        else {
            self.update_state.pending.retry_at = None;
            self.update_state.retries.reset();
            return;
        };
        // Logs only the first of a series of failures, so that a full disk does not fill the log.
        if self.update_state.pending.retry_at.is_none() {
            self.log_file_error(&error);
        }
        let delay = self.update_state.retries.delay(RestartDelay::Backoff, false);
        self.update_state.pending.retry_at = Some(Instant::now() + delay);
    }

    fn write_pending_result(&mut self) -> Result<(), FileError> {
        let (Some(updates), Some(result)) =
            (&self.update_state.updates, &self.update_state.pending.result)
        else {
            return Ok(());
        };
        if updates.open_request().is_some_and(|request| result.is_of(&request)) {
            updates.write_result(result)?;
        }
        self.update_state.pending.result = None;
        Ok(())
    }

    fn write_pending_trial(&mut self) -> Result<(), FileError> {
        let (Some(updates), Some(active)) =
            (&self.update_state.updates, &mut self.update_state.trial)
        else {
            return Ok(());
        };
        let trial = &active.trial;
        match trial.outcome {
            None if active.is_saved => return Ok(()),
            None => {
                updates.save_rollback(trial)?;
                CrashPoint::RolledBack.trigger();
                active.is_saved = true;
            }
            Some(outcome) => {
                updates.conclude(trial, outcome)?;
                let to = &trial.to;
                self.log.info(format_args!("update to {to}: {}", outcome.as_str()));
                self.update_state.trial = None;
            }
        }
        // The supervisor switches to its own version as well, once no agent is its child.
        let current = updates.current();
        let is_own = current.is_some_and(|current| self.layout.is_version(&current));
        self.update_state.should_exec = self.layout.is_own_version() && !is_own;
        Ok(())
    }

    /// A failed write is logged and retried; the agent keeps running.
    pub(super) fn log_file_error(&self, error: &FileError) {
        self.log.error(error_chain(error));
    }
}
