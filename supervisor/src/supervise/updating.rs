//! Another version, step by step: fetched, judged, tried, kept or given back.
//!
//! The agent does not run meanwhile; its jobs do. Whatever fails, some version is started next.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use muster_protocol::ExitCode;
use muster_protocol::release::{Program, UpdateOutcome, UpdateWish};
use serde::Deserialize;

use super::{Outcome, SuperviseError, Supervisor};
use crate::log::chain;
use crate::policy::{End, Fetch};
use crate::sentence;
use crate::update::{FileError, Phase, Taken, Trial, Updates};

/// For a download as a whole; what it has got is gone on with by the next one.
const DOWNLOAD_TIME: Duration = Duration::from_secs(600);
/// For a program to show that it starts on this host.
const SELF_TEST_TIME: Duration = Duration::from_secs(30);
/// Supervisors that may begin while a version is on trial.
const MAX_BOOTS: u32 = 3;
/// Agents of a version on trial that may end before one registers.
const MAX_FAILURES: u32 = 3;
/// How often it is looked whether the agent has registered, while a version is on trial.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A trial and what this supervisor has seen of it.
#[derive(Debug)]
struct Watched {
    trial: Trial,
    /// When the phase is over.
    until: Instant,
    failures: u32,
}

/// What this supervisor knows of versions.
#[derive(Debug)]
pub struct Updating {
    /// The versions of this installation, if it is one that can be updated.
    updates: Option<Updates>,
    trial: Option<Watched>,
    /// The supervisor's own program has been replaced.
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

    /// True while a version is on trial.
    pub(super) fn is_on_trial(&self) -> bool {
        self.trial.is_some()
    }
}

/// What a look at a trial has shown.
pub(super) enum Look {
    /// Look again then.
    At(Instant),
    /// The version on trial has had its time.
    TimeIsUp,
}

#[derive(Debug, Default, Deserialize)]
struct FetchError {
    code: Option<String>,
    message: Option<String>,
}

impl Supervisor {
    /// Takes up the trial that a supervisor before this one has begun. Comes first: whatever goes
    /// wrong after it, the beginning was counted.
    pub(super) fn resume_trial(&mut self) {
        let Some(updates) = &self.updating.updates else { return };
        let Some(mut trial) = updates.trial() else {
            self.report(updates.forget_trial());
            return;
        };
        self.report(updates.count_boot(&mut trial));
        let is_failing = trial.phase == Phase::Trying && trial.boots > MAX_BOOTS;
        self.follow(trial);
        if is_failing {
            let message = format!("its supervisor has begun {MAX_BOOTS} times to no avail");
            self.blame("supervisor_failed", &message);
        }
    }

    fn follow(&mut self, trial: Trial) {
        let until = Instant::now() + self.settings.trial_time;
        self.updating.trial = Some(Watched { trial, until, failures: 0 });
    }

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
        match self.fetch(&wish)? {
            Outcome::StopAsked(request) => return Ok(Outcome::StopAsked(request)),
            Outcome::Came(false) => return Ok(Outcome::Came(())),
            Outcome::Came(true) => {}
        }
        let Some(updates) = &self.updating.updates else { return Ok(Outcome::Came(())) };
        match updates.take(&wish) {
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
            let code = told.code.as_deref().unwrap_or("download_failed");
            let message = told.message.unwrap_or_else(|| sentence::download_ended(end));
            self.answer(updates, wish, UpdateOutcome::Failed, Some(code), message);
        }
        Ok(Outcome::Came(false))
    }

    /// The version is in its place. If its programs start on this host, it becomes current.
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
        let Some(updates) = &self.updating.updates else { return Ok(Outcome::Came(())) };
        match updates.begin_trial(wish) {
            Ok(trial) => {
                self.log.info(format_args!("trying version {} (it was {})", trial.to, trial.from));
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

    /// Looks how the trial stands while its agent runs as process `pid`.
    pub(super) fn look_at_trial(&mut self, pid: u32) -> Option<Look> {
        let (updates, watched) = (self.updating.updates.as_ref()?, self.updating.trial.as_ref()?);
        let (now, phase) = (Instant::now(), watched.trial.phase);
        if updates.is_registered(pid) {
            let outcome = match phase {
                Phase::Trying => UpdateOutcome::Installed,
                Phase::Returned => UpdateOutcome::RolledBack,
            };
            self.conclude(outcome);
            return None;
        }
        match phase {
            _ if now < watched.until => Some(Look::At((now + LOOK_EVERY).min(watched.until))),
            Phase::Trying => Some(Look::TimeIsUp),
            Phase::Returned => {
                // Neither of them has registered: that is not the release's fault.
                self.excuse();
                None
            }
        }
    }

    /// The agent of a version on trial has ended. True if that was the end of the trial.
    pub(super) fn fails_trial(&mut self, end: End) -> bool {
        let Some(watched) = &mut self.updating.trial else { return false };
        if watched.trial.phase != Phase::Trying || end == End::Exited(ExitCode::Stop.code()) {
            return false;
        }
        watched.failures += 1;
        let is_hopeless = end == End::Exited(ExitCode::Fatal.code());
        if !is_hopeless && watched.failures < MAX_FAILURES {
            return false;
        }
        let message = sentence::trial_failed(&watched.trial.to, end, watched.failures);
        self.blame("crashed", &message);
        true
    }

    /// The version on trial is at fault: the one before runs again, and that is the verdict.
    fn blame(&mut self, code: &str, message: &str) {
        if self.go_back(code, message) {
            self.conclude(UpdateOutcome::RolledBack);
        }
    }

    /// The version on trial has not registered in time. Whether the one before can, tells whose
    /// fault it is.
    pub(super) fn give_up_trial(&mut self) {
        let Some(watched) = &self.updating.trial else { return };
        let seconds = self.settings.trial_time.as_secs();
        let message = format!(
            "{} did not register within {seconds} s; {} runs again",
            watched.trial.to, watched.trial.from
        );
        self.go_back("not_registered", &message);
    }

    fn go_back(&mut self, code: &str, message: &str) -> bool {
        let (Some(updates), Some(watched)) = (&self.updating.updates, &mut self.updating.trial)
        else {
            return false;
        };
        self.log.error(format_args!("{message}: going back to {}", watched.trial.from));
        if let Err(error) = updates.go_back(&mut watched.trial, code, message) {
            self.log.error(format_args!("failed to {}", chain(&error)));
            return false;
        }
        watched.until = Instant::now() + self.settings.trial_time;
        self.updating.begins_anew = self.layout.is_own_version();
        true
    }

    fn excuse(&mut self) {
        if let Some(watched) = &mut self.updating.trial {
            watched.trial.code = Some("server_away".into());
            watched.trial.message = Some(format!(
                "neither {} nor {} could register, so that the release is not blamed; {} runs, ask for the update again",
                watched.trial.to, watched.trial.from, watched.trial.from
            ));
        }
        self.conclude(UpdateOutcome::Failed);
    }

    fn conclude(&mut self, outcome: UpdateOutcome) {
        let (Some(updates), Some(watched)) = (&self.updating.updates, self.updating.trial.take())
        else {
            return;
        };
        let Trial { to, .. } = &watched.trial;
        self.log.info(format_args!("update to {to}: {}", outcome.as_str()));
        self.report(updates.conclude(&watched.trial, outcome));
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
    fn report(&self, written: Result<(), FileError>) {
        if let Err(error) = written {
            self.log.error(format_args!("failed to {}", chain(&error)));
        }
    }

    /// Runs a program to its end, within bounds; passes a request to stop on to it.
    fn step(
        &mut self,
        command: &mut Command,
        limit: Duration,
    ) -> Result<Outcome<End>, SuperviseError> {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        if let Some(Ok(stderr)) = self.log_file.as_ref().map(crate::log_file::LogFile::stdio) {
            command.stderr(stderr);
        }
        if let Err(error) = self.host.start_agent(command) {
            self.log.warn(format_args!("failed to start a step of the update: {error}"));
            return Ok(Outcome::Came(End::NotStarted));
        }
        let until = Instant::now() + limit;
        let mut stop_asked = None;
        loop {
            if let Some(request) = self.take_stop().filter(|_| stop_asked.is_none()) {
                // What is half done is gone on with, or thrown away, by the next one.
                self.host.kill_agent();
                stop_asked = Some(request);
            }
            if let Some(end) = self.host.reap() {
                return Ok(match stop_asked {
                    Some(request) => Outcome::StopAsked(request),
                    None => Outcome::Came(end),
                });
            }
            if until <= Instant::now() {
                self.host.kill_agent();
                self.rest(None)?;
                continue;
            }
            self.rest(Some(until))?;
        }
    }
}
