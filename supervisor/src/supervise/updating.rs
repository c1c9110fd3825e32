//! Another version, step by step: fetched, judged, tried, kept or given back.
//!
//! The agent does not run meanwhile; its jobs do. Whatever fails, some version is started next.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use muster_protocol::release::{Program, UpdateOutcome, UpdateRequest};

use super::finishing::Unfinished;
use super::trying::Watched;
use super::{Outcome, SuperviseError, Supervisor};
use crate::fault::Cut;
use crate::policy::{End, Fetch, Pacer};
use crate::sentence;
use crate::update::{Guard, NotTaken, Taken, Updates};

/// For a program to show that it starts on this host.
const SELF_TEST_TIME: Duration = Duration::from_secs(30);

/// What this supervisor knows of versions.
#[derive(Debug)]
pub struct Updating {
    /// The versions of this installation, if it is one that can be updated.
    pub(super) updates: Option<Updates>,
    pub(super) trial: Option<Watched>,
    pub(super) unfinished: Unfinished,
    /// Between attempts at what is unfinished.
    pub(super) retries: Pacer,
    /// Another supervisor is to take over: the one on trial, or the one that is current.
    pub(super) begins_anew: bool,
}

impl Updating {
    /// Nothing is on trial yet. `retries`: between attempts to write down what is decided.
    pub fn new(updates: Option<Updates>, retries: Pacer) -> Self {
        let unfinished = Unfinished::default();
        Self { updates, trial: None, unfinished, retries, begins_anew: false }
    }

    /// True if another version could be installed here.
    pub(super) fn is_possible(&self) -> bool {
        self.updates.is_some()
    }

    /// True while the agent is to wait for what came of its wish.
    pub(super) fn owes_a_verdict(&self) -> bool {
        self.trial.is_some() || self.unfinished.verdict.is_some()
    }

    /// When what is unfinished is tried again.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.unfinished.retry_at
    }
}

impl Supervisor {
    /// A supervisor that looked after the same folder may be gone by now.
    pub(super) fn look_for_versions(&mut self) {
        if self.updating.updates.is_some() {
            return;
        }
        let Some(program) = &self.settings.install_dir else { return };
        let found = Updates::of(program, &self.settings.state_dir, Guard::default());
        if let Ok(Some(updates)) = found {
            self.log.info(format_args!("versions in {} can be changed", program.display()));
            self.updating.updates = Some(updates);
            self.resume_trial();
        }
    }

    /// The program of the version that runs because of a trial, while there is one.
    pub(super) fn in_trial(&self, program: Program) -> Option<PathBuf> {
        let version = self.version_in_trial()?;
        Some(self.updating.updates.as_ref()?.binary(version, program))
    }

    /// A wish that has neither a trial nor an answer was interrupted: it is answered, so that it
    /// never stays open.
    pub(super) fn answer_interrupted(&mut self) {
        if self.updating.owes_a_verdict() {
            return;
        }
        if let Some(wish) = self.updating.updates.as_ref().and_then(Updates::wish) {
            let message = "the update was interrupted; ask for it again".to_owned();
            self.answer(&wish, UpdateOutcome::Failed, Some("interrupted"), message);
        }
    }

    /// Does what the agent has wished for.
    pub(super) fn update(&mut self, fetch: Fetch) -> Result<Outcome<()>, SuperviseError> {
        // What is over is not in the way of what comes next.
        self.finish();
        let Some(updates) = &self.updating.updates else {
            self.log.warn("nothing to update here: the agent was not installed by deploy.sh");
            return Ok(Outcome::Came(()));
        };
        let Some(wish) = updates.wish() else {
            self.log.warn("the agent asked for a release and did not say which");
            return Ok(Outcome::Came(()));
        };
        let version = &wish.version;
        let is_current = updates.current().as_ref() == Some(version);
        if self.updating.trial.is_some() {
            // One at a time: what runs on trial is not what to go back to.
            let message = "another update of this host is not over; ask again later".to_owned();
            self.answer(&wish, UpdateOutcome::Failed, Some("update_under_way"), message);
            return Ok(Outcome::Came(()));
        }
        if fetch == Fetch::Wanted && is_current {
            let message = format!("{version} is what runs");
            self.answer(&wish, UpdateOutcome::Unchanged, None, message);
            return Ok(Outcome::Came(()));
        }
        let mut has_leftovers = updates.has_staging(version);
        let taken = loop {
            match self.fetch(&wish)? {
                Outcome::StopAsked(request) => return Ok(Outcome::StopAsked(request)),
                Outcome::Came(false) => return Ok(Outcome::Came(())),
                Outcome::Came(true) => Cut::Fetched.here(),
            }
            let Some(updates) = &self.updating.updates else { return Ok(Outcome::Came(())) };
            let taken = updates.take(&wish);
            // Refused once is refused again, and what was placed is placed.
            updates.drop_staging();
            // A power cut may have left anything of an earlier download: not the release's fault.
            let is_suspect = taken.as_ref().is_err_and(NotTaken::is_of_bytes);
            if !is_suspect || !std::mem::take(&mut has_leftovers) {
                break taken;
            }
            self.log.warn("what an earlier download had left was no good: fetching it afresh");
        };
        match taken {
            Ok(Taken::Placed) => return self.try_out(&wish),
            Ok(Taken::Repaired) => {
                let message = format!("{version} was fetched afresh");
                self.answer(&wish, UpdateOutcome::Installed, None, message);
                // What is yet to be told would be forgotten.
                let is_told = self.updating.unfinished.verdict.is_none();
                self.updating.begins_anew = is_told && self.layout.is_own_version();
            }
            Err(error) => self.refuse(&wish, &error),
        }
        Ok(Outcome::Came(()))
    }

    /// The version is in its place. If its programs start on this host, it is tried.
    fn try_out(&mut self, wish: &UpdateRequest) -> Result<Outcome<()>, SuperviseError> {
        for program in [Program::Supervisor, Program::Agent] {
            let Some(updates) = &self.updating.updates else { return Ok(Outcome::Came(())) };
            let mut command = Command::new(updates.binary(&wish.version, program));
            match program {
                // It will be started with just these.
                Program::Supervisor => {
                    command.args(["self-test", "--"]).args(std::env::args_os().skip(1))
                }
                Program::Agent => command.arg("version"),
            };
            let end = match self.step(&mut command, SELF_TEST_TIME)? {
                Outcome::Came(end) => end,
                Outcome::StopAsked(request) => return Ok(Outcome::StopAsked(request)),
            };
            if end != End::Exited(0) {
                let message = sentence::self_test_failed(program, &wish.version, end);
                self.answer(wish, UpdateOutcome::RolledBack, Some("does_not_start"), message);
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
            Err(error) => self.refuse(wish, &error.into()),
        }
        Ok(Outcome::Came(()))
    }
}
