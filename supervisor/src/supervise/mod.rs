//! The loop: start the agent, wait for its end, do what the policy says.
//!
//! Blocking, one thread, no timer that is not needed. Knows no exit code's meaning (policy), no
//! system call (platform) and no file's place (layout, board).

mod fetching;
mod finishing;
mod step;
mod trying;
mod updating;
mod waiting;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use muster_protocol::release::Program;

use crate::board::Board;
use crate::fatal_reason;
use crate::layout::Layout;
use crate::log::Log;
use crate::log_file::LogFile;
use crate::notify::OWN_VARIABLES;
use crate::platform::{Host, Request};
use crate::policy::{Cause, Decision, End, History, Pacer, decide};
use crate::sentence;
use crate::settings::Settings;
use trying::Look;
pub use updating::Updating;

/// Why the supervisor itself can't go on.
#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    /// Waiting for signals failed.
    #[error("wait for the agent")]
    Wait(#[source] std::io::Error),
}

/// Everything that a run of the supervisor works with.
pub struct Supervisor {
    /// What was asked for on the command line.
    pub settings: Settings,
    /// Where the agent lies.
    pub layout: Layout,
    /// Signals and the child.
    pub host: Host,
    /// Who is told.
    pub board: Board,
    /// Other versions.
    pub updating: Updating,
    /// What the policy remembers.
    pub history: History,
    /// The backoff.
    pub pacer: Pacer,
    /// How often to feed the service manager's watchdog.
    pub watchdog_interval: Option<Duration>,
    /// Whether a hang-up means that the terminal is gone, and not that the configuration is new.
    pub hangup_stops: bool,
    /// For people.
    pub log: Log,
    /// Takes what the agent says, if a log is kept.
    pub log_file: Option<LogFile>,
}

/// How a run of the supervisor ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finish {
    /// With this code: 0, or 99 if the agent can't work as configured.
    Exit(i32),
    /// With this supervisor: the one on trial, or the one that is current.
    Anew(PathBuf),
}

/// What a wait ended with.
enum Outcome<T> {
    /// What was waited for.
    Came(T),
    /// A request to stop came first, and was carried out.
    StopAsked(Request),
}

/// What a watch over the agent ended with.
enum Watch {
    Ended(End),
    StopAsked(Request),
    /// The version on trial has not registered in time; its agent was ended.
    TrialOver,
}

impl Supervisor {
    /// Runs until the agent stops for good, somebody asks the supervisor to stop, or its own
    /// program has been replaced.
    ///
    /// # Errors
    /// [`SuperviseError`] if the supervisor itself can't work.
    pub fn run(mut self) -> Result<Finish, SuperviseError> {
        self.resume_trial();
        let ended = self.keep_running();
        let Self { log_file, log, board, .. } = self;
        // They hold ends of the log.
        drop((log, board));
        if let Some(log_file) = log_file {
            log_file.finish();
        }
        ended
    }

    fn keep_running(&mut self) -> Result<Finish, SuperviseError> {
        let mut why = "first start".to_owned();
        loop {
            self.look_for_versions();
            if self.updating.begins_anew {
                return Ok(Finish::Anew(self.successor()));
            }
            self.answer_interrupted();
            let started_at = SystemTime::now();
            let started = self.start(&why);
            let pid = started.as_ref().ok().copied();
            let (end, not_started) = match started {
                Ok(pid) => match self.watch(pid)? {
                    Watch::Ended(end) => (end, None),
                    Watch::StopAsked(request) => return Ok(self.stopped_by(request)),
                    Watch::TrialOver => {
                        self.give_up_trial();
                        why = "the version on trial has not registered in time".to_owned();
                        continue;
                    }
                },
                Err(sentence) => (End::NotStarted, Some(sentence)),
            };
            if self.fails_trial(pid, end) {
                self.board.ended(end);
                why = "the version on trial has failed".to_owned();
                continue;
            }
            let now = Instant::now();
            let decision = decide(end, &self.history, now);
            self.history.record_decision(decision, now);
            self.board.ended(end);

            let (cause, pace, healthy) = match decision {
                Decision::Start { cause, pace, healthy } => (cause, pace, healthy),
                Decision::Stop => return self.settle(0, sentence::STOPPED.to_owned()),
                Decision::Fatal => {
                    let told = fatal_reason::read(&self.settings.state_dir, started_at);
                    return self.settle(99, sentence::fatal(told.as_deref()));
                }
            };
            why = not_started.unwrap_or_else(|| sentence::ended(end, cause, pace));
            if let Cause::Release(fetch) = cause
                && let Outcome::StopAsked(request) = self.update(fetch)?
            {
                return Ok(self.stopped_by(request));
            }
            let delay = self.pacer.delay(pace, healthy);
            if let Outcome::StopAsked(request) = self.pause(delay, &why)? {
                return Ok(self.stopped_by(request));
            }
        }
    }

    /// The supervisor that takes over.
    fn successor(&self) -> PathBuf {
        let on_trial = self.in_trial(Program::Supervisor);
        on_trial.unwrap_or_else(|| self.layout.current_supervisor())
    }

    fn start(&mut self, why: &str) -> Result<u32, String> {
        self.forget_session();
        let on_trial = self.in_trial(Program::Agent);
        let binary = on_trial.unwrap_or_else(|| self.layout.agent_binary());
        let mut command = Command::new(&binary);
        command.arg("run").args(&self.settings.agent_args).stdin(Stdio::null());
        command.env("MUSTER_SUPERVISED", "1");
        if self.updating.is_possible() {
            command.env("MUSTER_CAN_UPDATE", "1");
        }
        if self.updating.owes_a_verdict() {
            command.env("MUSTER_ON_TRIAL", "1");
        }
        // Without the file the lines are still in the service manager's log.
        if let Some(Ok(stderr)) = self.log_file.as_ref().map(LogFile::stdio) {
            command.stderr(stderr);
        }
        for variable in OWN_VARIABLES {
            command.env_remove(variable);
        }
        let pid = self
            .host
            .start_agent(&mut command)
            .map_err(|error| sentence::not_started(&binary, &error))?;
        self.history.record_start(Instant::now());
        self.log.info(format_args!("started {} as process {pid}", binary.display()));
        self.board.running(pid, why);
        Ok(pid)
    }

    /// Waits for the end of the agent, passing requests on to it.
    fn watch(&mut self, pid: u32) -> Result<Watch, SuperviseError> {
        let mut stop_asked = None;
        let mut is_trial_over = false;
        let mut kill_at = None;
        loop {
            while let Some(request) = self.host.take_request() {
                self.log.info(format_args!("passing {} on to the agent", request.name()));
                self.host.pass_on(request);
                if self.stops(request) && stop_asked.is_none() {
                    stop_asked = Some(request);
                    kill_at = Some(Instant::now() + self.settings.stop_grace);
                    self.board.stopping();
                }
            }
            if let Some(end) = self.host.reap() {
                return Ok(match stop_asked {
                    None if is_trial_over => {
                        self.board.ended(end);
                        Watch::TrialOver
                    }
                    None => Watch::Ended(end),
                    Some(request) => {
                        self.board.ended(end);
                        Watch::StopAsked(request)
                    }
                });
            }
            let mut look_at = None;
            if stop_asked.is_none() && !is_trial_over {
                match self.look_at_trial(pid) {
                    None => {}
                    Some(Look::At(at)) => look_at = Some(at),
                    Some(Look::TimeIsUp) => {
                        is_trial_over = true;
                        self.host.pass_on(Request::Terminate);
                        kill_at = Some(Instant::now() + self.settings.stop_grace);
                    }
                }
            }
            if kill_at.is_some_and(|at| at <= Instant::now()) {
                kill_at = None;
                self.log.warn("the agent did not stop in time: killing it; its jobs go on");
                self.host.kill_agent();
            }
            self.rest([kill_at, look_at].into_iter().flatten().min())?;
        }
    }
}
