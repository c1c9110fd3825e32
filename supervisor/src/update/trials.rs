//! What a trial changes on disk: begun, counted, given back, concluded.
//!
//! How it ends is written down first, and then carried out. So a start that finds an outcome has
//! nothing to decide, and no trial is taken up that the agent has been told the end of.

use muster_protocol::release::{
    UPDATE_REQUEST_FILE, UPDATE_RESULT_FILE, UpdateOutcome, UpdateRequest, UpdateResult,
};

use super::durable::{self, FileError};
use super::pins::Pins;
use super::trial::{Phase, Trial};
use super::{Updates, Version};
use crate::fault::Cut;

impl Updates {
    /// The version on trial, also across restarts of the host. A note of a trial that is none any
    /// more is removed.
    ///
    /// # Errors
    /// [`FileError`] if it can't be told.
    pub fn trial(&self) -> Result<Option<Trial>, FileError> {
        if let Some(trial) = Trial::read(&self.program)?
            && self.is_on(&trial)
        {
            return Ok(Some(trial));
        }
        if Trial::is_noted(&self.program) {
            Trial::remove(&self.program)?;
        }
        Ok(None)
    }

    fn is_on(&self, trial: &Trial) -> bool {
        let Some(current) = self.current() else { return false };
        if trial.outcome.is_some() {
            return current == trial.from || current == trial.to;
        }
        // It becomes current once it has registered, a moment before the trial is over.
        let fits = current == trial.from || (trial.phase == Phase::Trying && current == trial.to);
        fits && !self.has_told(trial)
    }

    fn has_told(&self, trial: &Trial) -> bool {
        let wish = UpdateRequest { command_id: trial.command_id, version: trial.to.clone() };
        let verdict: Option<UpdateResult> = durable::read(&self.state_dir.join(UPDATE_RESULT_FILE));
        verdict.is_some_and(|verdict| verdict.is_of(&wish))
    }

    /// Notes that the placed version is tried. The version before it stays current meanwhile: it is
    /// what the host starts with, whatever the new one does.
    ///
    /// # Errors
    /// [`FileError`]; there is no trial then.
    pub fn begin_trial(&self, wish: &UpdateRequest) -> Result<Trial, FileError> {
        let from = self.current().ok_or_else(|| self.versions.no_current())?;
        let trial = Trial {
            command_id: wish.command_id,
            from,
            to: wish.version.clone(),
            phase: Phase::Trying,
            boots: 0,
            code: None,
            message: None,
            outcome: None,
        };
        trial.write(&self.program)?;
        Ok(trial)
    }

    /// Notes that a supervisor begins while a version is on trial, unless the guard has.
    ///
    /// # Errors
    /// [`FileError`] if it could not be noted, then or now.
    pub fn count_boot(&mut self, trial: &mut Trial) -> Result<(), FileError> {
        if let Some(counted) = self.guard.counted.take() {
            return counted;
        }
        trial.boots += 1;
        trial.write(&self.program)
    }

    /// Writes down that the version before runs again, and that it is what the host starts with.
    ///
    /// # Errors
    /// [`FileError`]; it is to be tried again then.
    pub fn give_back(&self, trial: &Trial) -> Result<(), FileError> {
        self.make_current(&trial.from)?;
        self.note(trial)
    }

    /// The trial is over, as its outcome says: carries it out, tells the agent, forgets it.
    ///
    /// # Errors
    /// [`FileError`]; it is to be tried again then, by this supervisor or the next.
    pub fn conclude(&self, trial: &Trial, outcome: UpdateOutcome) -> Result<(), FileError> {
        self.note(trial)?;
        Cut::Decided.here();
        if outcome == UpdateOutcome::Installed {
            self.make_current(&trial.to)?;
            Cut::Kept.here();
            self.remember(&trial.to)?;
            Cut::Remembered.here();
        } else {
            self.make_current(&trial.from)?;
        }
        // The agent may have been told already, and have wished for something else since.
        let wish: Option<UpdateRequest> = durable::read(&self.state_dir.join(UPDATE_REQUEST_FILE));
        if wish.is_none_or(|wish| trial.is_of(&wish)) {
            self.write_verdict(&trial.verdict(outcome))?;
        }
        Cut::Told.here();
        Trial::remove(&self.program)?;
        Cut::TrialForgotten.here();
        self.versions.prune(&[&trial.from, &trial.to]);
        Ok(())
    }

    /// Writes a trial down, unless that is what is there: a disk that is full takes nothing.
    fn note(&self, trial: &Trial) -> Result<(), FileError> {
        match Trial::read(&self.program) {
            Ok(Some(noted)) if noted == *trial => Ok(()),
            _ => trial.write(&self.program),
        }
    }

    fn make_current(&self, version: &Version) -> Result<(), FileError> {
        match self.current().as_ref() == Some(version) {
            true => Ok(()),
            false => self.versions.point_to(version),
        }
    }

    /// Pins the key and raises the floor by what the version that is kept says.
    fn remember(&self, version: &Version) -> Result<(), FileError> {
        let Some(package) = self.versions.package(version) else { return Ok(()) };
        // What can't be read stays as it is: it refuses whatever comes next.
        let Ok(pins) = Pins::read(&self.program) else { return Ok(()) };
        pins.follow(&self.program, &package)
    }
}
