//! What is decided gets onto the disk, and to the agent: now, or as soon as the disk takes it.
//!
//! Decides nothing. A host is on duty meanwhile, with the version that was decided on.

use std::time::Instant;

use muster_protocol::release::{UpdateOutcome, UpdateRequest, UpdateResult};

use super::Supervisor;
use crate::fault::Cut;
use crate::log::chain;
use crate::policy::Pace;
use crate::update::FileError;

/// What is left to do, and when.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    /// What came of a wish that led to no trial.
    pub(super) verdict: Option<UpdateResult>,
    /// When it is tried again.
    pub(super) retry_at: Option<Instant>,
}

impl Supervisor {
    /// Answers a wish that led to no trial.
    pub(super) fn answer(
        &mut self,
        wish: &UpdateRequest,
        outcome: UpdateOutcome,
        code: Option<&str>,
        message: String,
    ) {
        let Some(updates) = &self.updating.updates else { return };
        let name = outcome.as_str();
        self.log.info(format_args!("update to {}: {name}: {message}", wish.version));
        self.updating.unfinished.verdict = Some(updates.answer(wish, outcome, code, message));
        self.finish();
    }

    /// Does what is left to do, as far as the disk lets it.
    pub(super) fn finish(&mut self) {
        let Err(error) = self.tell().and_then(|()| self.carry_out()) else {
            self.updating.unfinished.retry_at = None;
            self.updating.retries.reset();
            return;
        };
        // One line for a row of failures, or a disk that stays full would fill the log.
        if self.updating.unfinished.retry_at.is_none() {
            self.report(&error);
        }
        let delay = self.updating.retries.delay(Pace::Backoff, false);
        self.updating.unfinished.retry_at = Some(Instant::now() + delay);
    }

    fn tell(&mut self) -> Result<(), FileError> {
        let (Some(updates), Some(verdict)) =
            (&self.updating.updates, &self.updating.unfinished.verdict)
        else {
            return Ok(());
        };
        if updates.wish().is_some_and(|wish| verdict.is_of(&wish)) {
            updates.write_verdict(verdict)?;
        }
        self.updating.unfinished.verdict = None;
        Ok(())
    }

    fn carry_out(&mut self) -> Result<(), FileError> {
        let (Some(updates), Some(watched)) = (&self.updating.updates, &mut self.updating.trial)
        else {
            return Ok(());
        };
        let trial = &watched.trial;
        match trial.outcome {
            None if watched.is_written => return Ok(()),
            None => {
                updates.give_back(trial)?;
                Cut::GivenBack.here();
                watched.is_written = true;
            }
            Some(outcome) => {
                updates.conclude(trial, outcome)?;
                let to = &trial.to;
                self.log.info(format_args!("update to {to}: {}", outcome.as_str()));
                self.updating.trial = None;
            }
        }
        // The supervisor goes with its version, once no agent is its child.
        let current = updates.current();
        let is_own = current.is_some_and(|current| self.layout.is_version(&current));
        self.updating.begins_anew = self.layout.is_own_version() && !is_own;
        Ok(())
    }

    /// What can't be written down is not what a host stops for.
    pub(super) fn report(&self, error: &FileError) {
        self.log.error(format_args!("failed to {}", chain(error)));
    }
}
