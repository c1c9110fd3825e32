//! Another version, step by step: fetched, judged, tried, kept or given back.
//!
//! The agent does not run meanwhile; its jobs do. Whatever fails, some version is started next.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use muster_protocol::release::{NO_SPACE_EXIT, Program, UpdateOutcome, UpdateWish};
use serde::Deserialize;

use super::trying::Watched;
use super::{Outcome, SuperviseError, Supervisor};
use crate::fault::Cut;
use crate::log::chain;
use crate::policy::{End, Fetch};
use crate::sentence;
use crate::update::{FileError, NotTaken, Taken, Updates};

/// For a download as a whole; what it has got is gone on with by the next one.
const DOWNLOAD_TIME: Duration = Duration::from_secs(600);
/// For a program to show that it starts on this host.
const SELF_TEST_TIME: Duration = Duration::from_secs(30);

/// What this supervisor knows of versions.
#[derive(Debug)]
pub struct Updating {
    /// The versions of this installation, if it is one that can be updated.
    pub(super) updates: Option<Updates>,
    pub(super) trial: Option<Watched>,
    /// Another supervisor is to take over: the one on trial, or the one that is current.
    pub(super) begins_anew: bool,
}

impl Updating {
    /// Nothing is on trial yet.
    pub fn new(updates: Option<Updates>) -> Self {
        Self { updates, trial: None, begins_anew: false }
    }

    /// True if another version could be installed here.
    pub(super) fn is_possible(&self) -> bool {
        self.updates.is_some()
    }

    /// The program of the version on trial, while it has not been given back.
    pub(super) fn on_trial(&self, program: Program) -> Option<PathBuf> {
        let to = self.trial.as_ref()?.tried()?;
        Some(self.updates.as_ref()?.binary(to, program))
    }

    /// True while a version is on trial.
    pub(super) fn is_on_trial(&self) -> bool {
        self.trial.is_some()
    }
}

#[derive(Debug, Default, Deserialize)]
struct FetchError {
    code: Option<String>,
    message: Option<String>,
}

impl Supervisor {
    /// A wish that has neither a trial nor an answer was interrupted: it is answered, so that it
    /// never stays open.
    pub(super) fn answer_interrupted(&self) {
        let Some(updates) =
            self.updating.updates.as_ref().filter(|_| self.updating.trial.is_none())
        else {
            return;
        };
        if let Some(wish) = updates.wish() {
            let message = "the update was interrupted; ask for it again".to_owned();
            self.answer(updates, &wish, UpdateOutcome::Failed, Some("interrupted"), message);
        }
    }

    /// Does what the agent has wished for.
    pub(super) fn update(&mut self, fetch: Fetch) -> Result<Outcome<()>, SuperviseError> {
        let Some(updates) = &self.updating.updates else {
            self.log.warn("nothing to update here: the agent was not installed by deploy.sh");
            return Ok(Outcome::Came(()));
        };
        // One at a time: what runs on trial is not what to go back to.
        let Some(wish) = updates.wish().filter(|_| self.updating.trial.is_none()) else {
            self.log.warn("the agent asked for a release and did not say which");
            return Ok(Outcome::Came(()));
        };
        let version = &wish.version;
        if fetch == Fetch::Wanted && updates.current().as_ref() == Some(version) {
            let message = format!("{version} is what runs");
            self.answer(updates, &wish, UpdateOutcome::Unchanged, None, message);
            return Ok(Outcome::Came(()));
        }
        let mut has_leftovers = updates.has_staging(version);
        let taken = loop {
            match self.fetch(&wish)? {
                Outcome::StopAsked(request) => return Ok(Outcome::StopAsked(request)),
                Outcome::Came(false) => return Ok(Outcome::Came(())),
                Outcome::Came(true) => {}
            }
            let Some(updates) = &self.updating.updates else { return Ok(Outcome::Came(())) };
            Cut::Fetched.here();
            let taken = updates.take(&wish);
            // A power cut may have left anything of an earlier download: not the release's fault.
            let is_suspect = taken.as_ref().is_err_and(NotTaken::is_of_bytes);
            if !is_suspect || !std::mem::take(&mut has_leftovers) {
                break taken;
            }
            self.log.warn("what an earlier download had left was no good: fetching it afresh");
        };
        let Some(updates) = &self.updating.updates else { return Ok(Outcome::Came(())) };
        match taken {
            Ok(Taken::Placed) => return self.try_out(&wish),
            Ok(Taken::Unchanged) => {
                let message = format!("{} was whole", wish.version);
                self.answer(updates, &wish, UpdateOutcome::Unchanged, None, message);
            }
            Ok(Taken::Repaired) => {
                let message = format!("{} was fetched afresh", wish.version);
                self.answer(updates, &wish, UpdateOutcome::Installed, None, message);
                self.updating.begins_anew = self.layout.is_own_version();
            }
            Err(error) => {
                let (outcome, code) = (error.outcome(), error.code());
                self.answer(updates, &wish, outcome, Some(code), chain(&error).to_string());
            }
        }
        Ok(Outcome::Came(()))
    }

    /// True if the release was downloaded; if not, the wish is answered.
    fn fetch(&mut self, wish: &UpdateWish) -> Result<Outcome<bool>, SuperviseError> {
        let Some(updates) = &self.updating.updates else { return Ok(Outcome::Came(false)) };
        let staging = match updates.staging(&wish.version) {
            Ok(staging) => staging,
            Err(error) => {
                let message = chain(&error).to_string();
                let code = if error.is_no_space() { "no_space" } else { "storage_failed" };
                self.answer(updates, wish, UpdateOutcome::Failed, Some(code), message);
                return Ok(Outcome::Came(false));
            }
        };
        let mut command = Command::new(self.layout.agent_binary());
        command.arg("fetch-release").arg("--version").arg(wish.version.to_string());
        command.arg("--into").arg(&staging).args(&self.settings.agent_args);
        self.log.info(format_args!("fetching version {}", wish.version));
        self.board.updating(format!("fetching version {}", wish.version));
        let end = match self.step(&mut command, DOWNLOAD_TIME)? {
            Outcome::Came(end) => end,
            Outcome::StopAsked(request) => return Ok(Outcome::StopAsked(request)),
        };
        if end == End::Exited(0) {
            return Ok(Outcome::Came(true));
        }
        if let Some(updates) = &self.updating.updates {
            let told: FetchError = updates.told_by_download(&staging).unwrap_or_default();
            let is_full = end == End::Exited(NO_SPACE_EXIT.into());
            let untold = if is_full { "no_space" } else { "download_failed" };
            let code = told.code.as_deref().unwrap_or(untold);
            let message = told.message.unwrap_or_else(|| sentence::download_ended(end));
            self.answer(updates, wish, UpdateOutcome::Failed, Some(code), message);
        }
        Ok(Outcome::Came(false))
    }

    /// The version is in its place. If its programs start on this host, it is tried.
    fn try_out(&mut self, wish: &UpdateWish) -> Result<Outcome<()>, SuperviseError> {
        for (program, argument) in [(Program::Supervisor, "self-test"), (Program::Agent, "version")]
        {
            let Some(updates) = &self.updating.updates else { return Ok(Outcome::Came(())) };
            let binary = updates.binary(&wish.version, program);
            let end = match self.step(Command::new(binary).arg(argument), SELF_TEST_TIME)? {
                Outcome::Came(end) => end,
                Outcome::StopAsked(request) => return Ok(Outcome::StopAsked(request)),
            };
            if end != End::Exited(0)
                && let Some(updates) = &self.updating.updates
            {
                let message = sentence::self_test_failed(program, &wish.version, end);
                let code = Some("does_not_start");
                self.answer(updates, wish, UpdateOutcome::RolledBack, code, message);
                return Ok(Outcome::Came(()));
            }
        }
        Cut::SelfTested.here();
        let Some(updates) = &self.updating.updates else { return Ok(Outcome::Came(())) };
        match updates.begin_trial(wish) {
            Ok(trial) => {
                self.log.info(format_args!("trying version {} (it was {})", trial.to, trial.from));
                Cut::TrialNoted.here();
                self.follow(trial);
                self.updating.begins_anew = self.layout.is_own_version();
            }
            Err(error) => {
                let message = chain(&error).to_string();
                let code = Some("storage_failed");
                self.answer(updates, wish, UpdateOutcome::Failed, code, message);
            }
        }
        Ok(Outcome::Came(()))
    }

    fn answer(
        &self,
        updates: &Updates,
        wish: &UpdateWish,
        outcome: UpdateOutcome,
        code: Option<&str>,
        message: String,
    ) {
        let name = outcome.as_str();
        self.log.info(format_args!("update to {}: {name}: {message}", wish.version));
        self.report(updates.answer(wish, outcome, code, message));
    }

    /// What can't be written down is not what a host stops for.
    pub(super) fn report(&self, written: Result<(), FileError>) {
        if let Err(error) = written {
            self.log.error(format_args!("failed to {}", chain(&error)));
        }
    }
}
