//! What is written down of a version on trial: begun, counted, given back or kept.

use muster_protocol::release::{UpdateOutcome, UpdateVerdict, UpdateWish, VERDICT_FILE, Version};

use super::durable::{self, FileError};
use super::{FLOOR_FILE, KEY_FILE, Phase, Trial, Updates};
use crate::fault::Cut;

impl Updates {
    /// The version on trial, also across restarts of the host; `None` for a note that does not fit
    /// what is current.
    pub fn trial(&self) -> Option<Trial> {
        let trial = Trial::read(&self.program)?;
        let current = self.current()?;
        // It becomes current once it has registered, a moment before the trial is over.
        // Over but for its note.
        if current == trial.to && self.has_told(&trial) {
            return None;
        }
        let is_known =
            current == trial.from || (trial.phase == Phase::Trying && current == trial.to);
        is_known.then_some(trial)
    }

    fn has_told(&self, trial: &Trial) -> bool {
        let wish = UpdateWish { command_id: trial.command_id, version: trial.to.clone() };
        let verdict: Option<UpdateVerdict> = durable::read(&self.state_dir.join(VERDICT_FILE));
        verdict.is_some_and(|verdict| verdict.is_of(&wish))
    }

    /// Drops the note of a trial that is none.
    ///
    /// # Errors
    /// [`FileError`]
    pub fn forget_trial(&self) -> Result<(), FileError> {
        match Trial::is_noted(&self.program) {
            true => Trial::remove(&self.program),
            false => Ok(()),
        }
    }

    /// Notes that the placed version is tried. The version before it stays current meanwhile: it is
    /// what the host starts with, whatever the new one does.
    ///
    /// # Errors
    /// [`FileError`]; there is no trial then.
    pub fn begin_trial(&self, wish: &UpdateWish) -> Result<Trial, FileError> {
        let from = self.current().ok_or_else(|| self.versions.no_current())?;
        let trial = Trial {
            command_id: wish.command_id,
            from,
            to: wish.version.clone(),
            phase: Phase::Trying,
            boots: 0,
            code: None,
            message: None,
        };
        trial.write(&self.program)?;
        Ok(trial)
    }

    /// Notes that a supervisor begins while a version is on trial.
    ///
    /// # Errors
    /// [`FileError`]
    pub fn count_boot(&self, trial: &mut Trial) -> Result<(), FileError> {
        trial.boots += 1;
        trial.write(&self.program)
    }

    /// The version before the trial runs again; the trial goes on to tell whether that one can
    /// register.
    ///
    /// # Errors
    /// [`FileError`]; a next start finds the trial where it was.
    pub fn go_back(&self, trial: &mut Trial, code: &str, message: &str) -> Result<(), FileError> {
        trial.phase = Phase::Returned;
        trial.boots = 0;
        trial.code = Some(code.to_owned());
        trial.message = Some(message.to_owned());
        // Only if its own end was cut off a moment after it had registered.
        if self.current().as_ref() != Some(&trial.from) {
            self.versions.point_to(&trial.from)?;
        }
        trial.write(&self.program)
    }

    /// The trial is over: tells the agent, and forgets it.
    ///
    /// # Errors
    /// [`FileError`]; it is then found again at the next start.
    pub fn conclude(&self, trial: &Trial, outcome: UpdateOutcome) -> Result<(), FileError> {
        if outcome == UpdateOutcome::Installed {
            self.versions.point_to(&trial.to)?;
            Cut::Kept.here();
            self.remember(&trial.to)?;
            Cut::Remembered.here();
        }
        self.write_verdict(&trial.verdict(outcome))?;
        Cut::Told.here();
        Trial::remove(&self.program)?;
        Cut::TrialForgotten.here();
        self.versions.prune(&[&trial.from, &trial.to]);
        Ok(())
    }

    /// Pins the key and raises the floor by what the version that is kept says.
    fn remember(&self, version: &Version) -> Result<(), FileError> {
        let Some(package) = self.versions.package(version) else { return Ok(()) };
        let Ok((manifest, key)) = package.identity() else { return Ok(()) };
        durable::write_line(&self.program.join(KEY_FILE), &key.fingerprint())?;
        let path = self.program.join(FLOOR_FILE);
        let known = durable::read_line(&path).and_then(|line| line.parse::<Version>().ok());
        if known.is_none_or(|known| known < manifest.floor) {
            durable::write_line(&path, &manifest.floor.to_string())?;
        }
        Ok(())
    }
}
