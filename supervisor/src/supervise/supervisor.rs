//! The main loop: start the agent, wait for its exit, do what the policy decides.
//!
//! Blocking, on one thread. Does not know the meaning of exit codes (`policy`), system calls
//! (`platform`) or file locations (`layout`, `status`).

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use muster_protocol::release::Program;

use super::state::{Finish, Interruptible, SuperviseError, TrialCheck, UpdateState, WatchEnd};
use crate::fatal_reason;
use crate::layout::Layout;
use crate::log::Log;
use crate::log::LogFile;
use crate::platform::{ForwardedSignal, ProcessController};
use crate::policy::{Cause, Decision, ProcessExit, RestartBackoff, RestartHistory, decide};
use crate::reasons;
use crate::settings::Settings;
use crate::status::SERVICE_MANAGER_VARIABLES;
use crate::status::StatusPublisher;

/// The supervisor and everything that it works with.
pub struct Supervisor {
    /// The command line.
    pub settings: Settings,
    /// Where the agent's program is.
    pub layout: Layout,
    /// Signals and the child process.
    pub processes: ProcessController,
    /// Publishes the status.
    pub status: StatusPublisher,
    /// Updates and trials.
    pub update_state: UpdateState,
    /// Earlier runs of the agent.
    pub history: RestartHistory,
    /// Delays between restarts.
    pub backoff: RestartBackoff,
    /// How often to ping the service manager's watchdog.
    pub watchdog_interval: Option<Duration>,
    /// True if SIGHUP means that the terminal is gone, false if it means that the configuration
    /// changed.
    pub hangup_stops: bool,
    /// The log.
    pub log: Log,
    /// The log file, if one is configured. The agent's standard error goes there.
    pub log_file: Option<LogFile>,
}

impl Supervisor {
    /// Runs until the agent stops for good, a stop signal arrives, or another supervisor must take
    /// over.
    ///
    /// # Errors
    /// [`SuperviseError`] if waiting for signals fails.
    pub fn run(mut self) -> Result<Finish, SuperviseError> {
        self.resume_trial();
        let ended = self.keep_running();
        let Self { log_file, log, status, .. } = self;
        // Both hold a writer of the log file, which ends when all writers are closed.
        drop((log, status));
        if let Some(log_file) = log_file {
            log_file.finish();
        }
        ended
    }

    fn keep_running(&mut self) -> Result<Finish, SuperviseError> {
        let mut why = "first start".to_owned();
        loop {
            self.attach_installation();
            if self.update_state.should_exec {
                return Ok(Finish::Exec(self.successor()));
            }
            self.report_interrupted();
            let started_at = SystemTime::now();
            let started = self.start(&why);
            let pid = started.as_ref().ok().copied();
            let (end, not_started) = match started {
                Ok(pid) => match self.watch(pid)? {
                    WatchEnd::AgentEnded(end) => (end, None),
                    WatchEnd::StopRequested(request) => return Ok(self.stopped_by(request)),
                    WatchEnd::TrialTimedOut => {
                        self.time_out_trial();
                        why = "the version on trial did not register in time".to_owned();
                        continue;
                    }
                },
                Err(reason) => (ProcessExit::NotStarted, Some(reason)),
            };
            if self.fail_trial(pid, end) {
                self.status.ended(end);
                why = "the version on trial failed".to_owned();
                continue;
            }
            let now = Instant::now();
            let decision = decide(end, &self.history, now);
            self.history.record_decision(decision, now);
            self.status.ended(end);

            let (cause, delay, healthy) = match decision {
                Decision::Start { cause, delay, healthy } => (cause, delay, healthy),
                Decision::Stop => return self.park_or_exit(0, reasons::STOPPED.to_owned()),
                Decision::Fatal => {
                    let reported = fatal_reason::read(&self.settings.state_dir, started_at);
                    return self.park_or_exit(99, reasons::fatal(reported.as_deref()));
                }
            };
            why = not_started.unwrap_or_else(|| reasons::ended(end, cause, delay));
            if let Cause::ReleaseRequested(fetch) = cause
                && let Interruptible::StopRequested(request) = self.update(fetch)?
            {
                return Ok(self.stopped_by(request));
            }
            let delay = self.backoff.delay(delay, healthy);
            if let Interruptible::StopRequested(request) = self.wait_before_restart(delay, &why)? {
                return Ok(self.stopped_by(request));
            }
        }
    }

    /// The supervisor that must take over.
    fn successor(&self) -> PathBuf {
        let on_trial = self.trial_binary(Program::Supervisor);
        on_trial.unwrap_or_else(|| self.layout.current_supervisor())
    }

    fn start(&mut self, why: &str) -> Result<u32, String> {
        self.discard_agent_status();
        let on_trial = self.trial_binary(Program::Agent);
        let binary = on_trial.unwrap_or_else(|| self.layout.agent_binary());
        let mut command = Command::new(&binary);
        command.arg("run").args(&self.settings.agent_args).stdin(Stdio::null());
        command.env("MUSTER_SUPERVISED", "1");
        if self.update_state.is_available() {
            command.env("MUSTER_CAN_UPDATE", "1");
        }
        if self.update_state.is_result_pending() {
            command.env("MUSTER_ON_TRIAL", "1");
        }
        // Without the log file the lines go to the service manager's log.
        if let Some(Ok(stderr)) = self.log_file.as_ref().map(LogFile::stdio) {
            command.stderr(stderr);
        }
        for variable in SERVICE_MANAGER_VARIABLES {
            command.env_remove(variable);
        }
        let pid = self
            .processes
            .start_agent(&mut command)
            .map_err(|error| reasons::not_started(&binary, &error))?;
        self.history.record_start(Instant::now());
        self.log.info(format_args!("started {} as process {pid}", binary.display()));
        self.status.running(pid, why);
        Ok(pid)
    }

    /// Waits until the agent ends, and forwards signals to it.
    fn watch(&mut self, pid: u32) -> Result<WatchEnd, SuperviseError> {
        let mut stop_signal = None;
        let mut is_trial_over = false;
        let mut kill_at = None;
        loop {
            while let Some(request) = self.processes.take_request() {
                self.log.info(format_args!("forwarding {} to the agent", request.name()));
                self.processes.forward(request);
                if self.is_stop(request) && stop_signal.is_none() {
                    stop_signal = Some(request);
                    kill_at = Some(Instant::now() + self.settings.stop_grace);
                    self.status.stopping();
                }
            }
            if let Some(end) = self.processes.reap() {
                return Ok(match stop_signal {
                    None if is_trial_over => {
                        self.status.ended(end);
                        WatchEnd::TrialTimedOut
                    }
                    None => WatchEnd::AgentEnded(end),
                    Some(request) => {
                        self.status.ended(end);
                        WatchEnd::StopRequested(request)
                    }
                });
            }
            let mut look_at = None;
            if stop_signal.is_none() && !is_trial_over {
                match self.check_trial(pid) {
                    None => {}
                    Some(TrialCheck::CheckAt(at)) => look_at = Some(at),
                    Some(TrialCheck::TimedOut) => {
                        is_trial_over = true;
                        self.processes.forward(ForwardedSignal::Terminate);
                        kill_at = Some(Instant::now() + self.settings.stop_grace);
                    }
                }
            }
            if kill_at.is_some_and(|at| at <= Instant::now()) {
                kill_at = None;
                self.log.warn(
                    "the agent did not stop in time: killing it; its executions keep running",
                );
                self.processes.kill_agent();
            }
            self.wait_until([kill_at, look_at].into_iter().flatten().min())?;
        }
    }
}
