//! The changes of a trial on disk: start, count, roll back, conclude.
//!
//! The outcome is saved before it is applied. A start that finds a saved outcome has nothing to
//! decide, and a trial whose result the agent already has is never resumed.

use muster_protocol::release::{
    UPDATE_REQUEST_FILE, UPDATE_RESULT_FILE, UpdateOutcome, UpdateRequest, UpdateResult, Version,
};

use super::durable_file::{self, FileError};
use super::manager::UpdateManager;
use super::pins::Pins;
use super::trial_record::{Phase, TrialRecord};
use crate::fault_injection::CrashPoint;

impl UpdateManager {
    /// The active trial, also after a restart of the host. Removes a saved trial that is not active
    /// any more.
    ///
    /// # Errors
    /// [`FileError`] if the saved trial can't be read.
    pub fn trial(&self) -> Result<Option<TrialRecord>, FileError> {
        if let Some(trial) = TrialRecord::read(&self.program)?
            && self.is_active(&trial)
        {
            return Ok(Some(trial));
        }
        if TrialRecord::exists(&self.program) {
            TrialRecord::remove(&self.program)?;
        }
        Ok(None)
    }

    fn is_active(&self, trial: &TrialRecord) -> bool {
        let Some(current) = self.current() else { return false };
        if trial.outcome.is_some() {
            return current == trial.from || current == trial.to;
        }
        // The new version becomes current after it registered, shortly before the trial ends.
        let fits = current == trial.from || (trial.phase == Phase::OnTrial && current == trial.to);
        fits && !self.is_result_written(trial)
    }

    fn is_result_written(&self, trial: &TrialRecord) -> bool {
        let (command_id, version) = (trial.command_id, trial.to.clone());
        let request = UpdateRequest { command_id, version, reinstall: false };
        let result: Option<UpdateResult> =
            durable_file::read(&self.state_dir.join(UPDATE_RESULT_FILE));
        result.is_some_and(|result| result.is_of(&request))
    }

    /// Saves that the installed version is on trial. The previous version stays current: the host
    /// starts with it even if the new one fails.
    ///
    /// # Errors
    /// [`FileError`]; there is no trial.
    pub fn begin_trial(&self, request: &UpdateRequest) -> Result<TrialRecord, FileError> {
        let from = self.current().ok_or_else(|| self.versions.no_current())?;
        let trial = TrialRecord {
            command_id: request.command_id,
            from,
            to: request.version.clone(),
            phase: Phase::OnTrial,
            boots: 0,
            code: None,
            message: None,
            outcome: None,
        };
        trial.write(&self.program)?;
        Ok(trial)
    }

    /// Counts a start of a supervisor during the trial, unless the boot counter has.
    ///
    /// # Errors
    /// [`FileError`] if the count could not be saved, now or by the boot counter.
    pub fn count_boot(&mut self, trial: &mut TrialRecord) -> Result<(), FileError> {
        if let Some(counted) = self.boot_counter.counted.take() {
            return counted;
        }
        trial.boots += 1;
        trial.write(&self.program)
    }

    /// Makes the previous version current and saves that it runs again.
    ///
    /// # Errors
    /// [`FileError`]; the caller must retry.
    pub fn save_rollback(&self, trial: &TrialRecord) -> Result<(), FileError> {
        self.make_current(&trial.from)?;
        self.save_trial(trial)
    }

    /// Ends the trial: applies its outcome, writes the result for the agent, removes the saved
    /// trial and unused versions.
    ///
    /// # Errors
    /// [`FileError`]; this supervisor or the next one must retry.
    pub fn conclude(&self, trial: &TrialRecord, outcome: UpdateOutcome) -> Result<(), FileError> {
        self.save_trial(trial)?;
        CrashPoint::OutcomeSaved.trigger();
        if outcome == UpdateOutcome::Installed {
            self.make_current(&trial.to)?;
            CrashPoint::MadeCurrent.trigger();
            self.update_pins(&trial.to)?;
            CrashPoint::PinsUpdated.trigger();
        } else {
            self.make_current(&trial.from)?;
        }
        // The agent may have read the result and requested another update since.
        let request: Option<UpdateRequest> =
            durable_file::read(&self.state_dir.join(UPDATE_REQUEST_FILE));
        if request.is_none_or(|request| trial.is_of(&request)) {
            self.write_result(&trial.result(outcome))?;
        }
        CrashPoint::ResultWritten.trigger();
        TrialRecord::remove(&self.program)?;
        CrashPoint::TrialRemoved.trigger();
        self.versions.prune(&[&trial.from, &trial.to]);
        Ok(())
    }

    /// Saves the trial unless it is saved already: a full disk accepts no write.
    fn save_trial(&self, trial: &TrialRecord) -> Result<(), FileError> {
        match TrialRecord::read(&self.program) {
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

    /// Updates the pinned key and floor from the documents of the version that is kept.
    fn update_pins(&self, version: &Version) -> Result<(), FileError> {
        let Some(package) = self.versions.package(version) else { return Ok(()) };
        // Unreadable pins stay as they are: they reject every later release.
        let Ok(pins) = Pins::read(&self.program) else { return Ok(()) };
        pins.update_from(&self.program, &package)
    }
}
