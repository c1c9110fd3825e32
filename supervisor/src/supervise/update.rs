//! An update, step by step: download, verify, install, test, start the trial.
//!
//! The agent does not run meanwhile; its executions do. If a step fails, an installed version is
//! started next.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use muster_protocol::release::{Program, UpdateOutcome, UpdateRequest};

use super::state::{Interruptible, SuperviseError};
use super::supervisor::Supervisor;
use crate::fault_injection::CrashPoint;
use crate::policy::{ProcessExit, ReleaseRequest};
use crate::reasons;
use crate::update::{BootCounter, Installed, UpdateError, UpdateManager};

/// Time for a program's self-test.
const SELF_TEST_TIME: Duration = Duration::from_secs(30);

impl Supervisor {
    /// Opens the installation if it could not be opened before: another supervisor that held its
    /// lock may have ended.
    pub(super) fn attach_installation(&mut self) {
        if self.update_state.updates.is_some() {
            return;
        }
        let Some(program) = &self.settings.install_dir else { return };
        let found = UpdateManager::open(program, &self.settings.state_dir, BootCounter::default());
        if let Ok(Some(updates)) = found {
            self.log.info(format_args!("updates of {} are possible now", program.display()));
            self.update_state.updates = Some(updates);
            self.resume_trial();
        }
    }

    /// The program of the version that a trial selects, if there is a trial.
    pub(super) fn trial_binary(&self, program: Program) -> Option<PathBuf> {
        let version = self.trial_version()?;
        Some(self.update_state.updates.as_ref()?.binary(version, program))
    }

    /// Ends a request that has neither a trial nor a result: it was interrupted. Otherwise it would
    /// stay open forever.
    pub(super) fn report_interrupted(&mut self) {
        if self.update_state.is_result_pending() {
            return;
        }
        if let Some(request) =
            self.update_state.updates.as_ref().and_then(UpdateManager::open_request)
        {
            let message = "the update was interrupted; request it again".to_owned();
            self.finish_request(&request, UpdateOutcome::Failed, Some("interrupted"), message);
        }
    }

    /// Carries out the agent's update request.
    pub(super) fn update(
        &mut self,
        fetch: ReleaseRequest,
    ) -> Result<Interruptible<()>, SuperviseError> {
        // A finished trial must not block this request.
        self.flush();
        let Some(updates) = &self.update_state.updates else {
            self.log.warn("this agent can't be updated: it was not installed by deploy.sh");
            return Ok(Interruptible::Done(()));
        };
        let Some(request) = updates.open_request() else {
            self.log.warn("the agent asked for an update without an update request");
            return Ok(Interruptible::Done(()));
        };
        let version = &request.version;
        let is_current = updates.current().as_ref() == Some(version);
        if self.update_state.trial.is_some() {
            // Only one at a time: a version on trial must not become the one to roll back to.
            let message = "another update of this host is in progress; try again later".to_owned();
            self.finish_request(&request, UpdateOutcome::Failed, Some("update_under_way"), message);
            return Ok(Interruptible::Done(()));
        }
        if fetch == ReleaseRequest::Desired && is_current {
            let message = format!("version {version} already runs");
            self.finish_request(&request, UpdateOutcome::Unchanged, None, message);
            return Ok(Interruptible::Done(()));
        }
        let mut has_leftovers = updates.has_staging(version);
        let taken = loop {
            match self.download(&request)? {
                Interruptible::StopRequested(request) => {
                    return Ok(Interruptible::StopRequested(request));
                }
                Interruptible::Done(false) => return Ok(Interruptible::Done(())),
                Interruptible::Done(true) => CrashPoint::Downloaded.trigger(),
            }
            let Some(updates) = &self.update_state.updates else {
                return Ok(Interruptible::Done(()));
            };
            let taken = updates.install(&request);
            // A rejected download is useless, and an installed one has been moved.
            updates.drop_staging();
            // A power cut may have corrupted an earlier download. The release is not at fault.
            let is_suspect = taken.as_ref().is_err_and(UpdateError::is_content_mismatch);
            if !is_suspect || !std::mem::take(&mut has_leftovers) {
                break taken;
            }
            self.log.warn("the resumed download is corrupt; downloading it again");
        };
        match taken {
            Ok(Installed::Placed) => return self.start_trial(&request),
            Ok(Installed::Repaired) => {
                let message = format!("version {version} was downloaded and installed again");
                self.finish_request(&request, UpdateOutcome::Installed, None, message);
                // `exec` would lose a result that is not written yet.
                let is_result_written = self.update_state.pending.result.is_none();
                self.update_state.should_exec = is_result_written && self.layout.is_own_version();
            }
            Err(error) => self.reject(&request, &error),
        }
        Ok(Interruptible::Done(()))
    }

    /// Tests the programs of the installed version on this host and starts its trial.
    fn start_trial(
        &mut self,
        request: &UpdateRequest,
    ) -> Result<Interruptible<()>, SuperviseError> {
        for program in [Program::Supervisor, Program::Agent] {
            let Some(updates) = &self.update_state.updates else {
                return Ok(Interruptible::Done(()));
            };
            let mut command = Command::new(updates.binary(&request.version, program));
            match program {
                // The arguments that it will be started with.
                Program::Supervisor => {
                    command.args(["self-test", "--"]).args(std::env::args_os().skip(1))
                }
                Program::Agent => command.arg("version"),
            };
            let end = match self.run_helper(&mut command, SELF_TEST_TIME)? {
                Interruptible::Done(end) => end,
                Interruptible::StopRequested(request) => {
                    return Ok(Interruptible::StopRequested(request));
                }
            };
            if end != ProcessExit::Exited(0) {
                let message = reasons::self_test_failed(program, &request.version, end);
                self.finish_request(
                    request,
                    UpdateOutcome::RolledBack,
                    Some("does_not_start"),
                    message,
                );
                return Ok(Interruptible::Done(()));
            }
        }
        CrashPoint::SelfTested.trigger();
        let Some(updates) = &self.update_state.updates else { return Ok(Interruptible::Done(())) };
        match updates.begin_trial(request) {
            Ok(trial) => {
                self.log.info(format_args!(
                    "starting the trial of version {} (previous version: {})",
                    trial.to, trial.from
                ));
                CrashPoint::TrialSaved.trigger();
                self.track_trial(trial);
                self.update_state.should_exec = self.layout.is_own_version();
            }
            Err(error) => self.reject(request, &error.into()),
        }
        Ok(Interruptible::Done(()))
    }
}
