//! The steps of an execution, one after the other, with their results.
//!
//! All steps are checked before the first one starts, and each again when its turn comes: an earlier step may
//! have changed its file.

use std::fs::File;
use std::time::{Duration, Instant};

use muster_protocol::commands::attestation::AttestedStep;
use muster_protocol::commands::step::{
    OnFailure, RunningStep, StepProgress, StepResult, StepState,
};

use super::capture::OutputCapture;
use super::found::{Found, attested_step, find, program_sha256};
use super::process_end::ChildExit;
use super::processes::{self, Run, RunEnd, millis};
use super::supervise::ChildEnd;
use super::{Execution, ShimError, unix_now_ms};
use crate::executions::ledger::record::{
    CancelledBy, ExecutionEnd, ExitRecord, ParameterRecord, StepLaunch, bounded_to,
};
use crate::executions::secret_files;
use crate::platform::Account;
use crate::storage;

/// Longest reason why a step could not be started, in bytes.
const MAX_STEP_ERROR_BYTES: usize = 300;

/// Runs the steps, and keeps what they have in common.
struct StepRunner<'a> {
    execution: &'a Execution,
    account: Option<Account>,
    control: File,
    capture: OutputCapture,
    deadline: Instant,
    is_timed_out: bool,
    is_cancelled: bool,
    /// A step did not succeed, and no other one runs after it.
    is_stopped: bool,
    attested: Vec<AttestedStep>,
}

/// Runs the steps. Blocks until the last one has ended. Also returns what they ran.
///
/// # Errors
/// [`ShimError`] if the system can't wait for a child.
pub fn run(
    execution: &Execution,
    account: Option<Account>,
    parameters: &ParameterRecord,
    control: File,
    capture: OutputCapture,
) -> Result<(ExitRecord, Vec<AttestedStep>), ShimError> {
    let started = Instant::now();
    let launch = &execution.launch;
    let mut runner = StepRunner {
        execution,
        account,
        control,
        capture,
        deadline: started + Duration::from_millis(launch.timeout_ms),
        is_timed_out: false,
        is_cancelled: false,
        is_stopped: false,
        attested: Vec::new(),
    };
    let mut results = Vec::with_capacity(launch.steps.len());
    for (number, step) in launch.steps.iter().enumerate() {
        let values = parameters.steps.get(number).ok_or(ShimError::NoParameters)?;
        let result = runner.step(step, values, &results)?;
        results.push(result);
    }
    let StepRunner { capture, is_timed_out, is_cancelled, attested, .. } = runner;
    let mut result = capture.finish(millis(started.elapsed()));
    let ran = || results.iter().filter(|step| step.state != StepState::Skipped);
    let shown = ran().find(|step| step.state != StepState::Succeeded).or(ran().next_back());
    (result.exit_code, result.signal) =
        shown.map_or((None, None), |step| (step.exit_code, step.signal));
    result.steps = results;
    let exit = ExitRecord {
        ending: ExecutionEnd::Ended,
        is_timed_out,
        is_cancelled,
        cancelled_by: CancelledBy::Server,
        is_unhealthy: false,
        result,
        run: None,
        failed_part: None,
        call: None,
    };
    Ok((exit, attested))
}

impl StepRunner<'_> {
    fn step(
        &mut self,
        step: &StepLaunch,
        values: &ParameterRecord,
        before: &[StepResult],
    ) -> Result<StepResult, ShimError> {
        let execution = self.execution;
        self.attested.push(attested_step(&step.launch, values));
        let from_bytes = self.capture.stored_bytes();
        let skipped = StepResult::skipped(step.name.clone(), from_bytes);
        if !self.is_stopped && storage::exists(&execution.dir.cancel())? {
            (self.is_cancelled, self.is_stopped) = (true, true);
        }
        if !self.is_stopped && Instant::now() >= self.deadline {
            (self.is_timed_out, self.is_stopped) = (true, true);
        }
        if self.is_stopped {
            return Ok(skipped);
        }
        let (started, started_at_ms) = (Instant::now(), unix_now_ms());
        self.note(before, RunningStep { started_at_ms, from_bytes });
        let ended = self.start(step, values, started)?;
        // Of this step alone: the next one must not find them.
        secret_files::remove(&execution.dir);
        let result = StepResult {
            started_at_ms: Some(started_at_ms),
            duration_ms: Some(millis(started.elapsed())),
            to_bytes: self.capture.stored_bytes(),
            ..skipped
        };
        let result = match ended {
            Ok(end) => {
                self.is_cancelled |= end.is_cancelled;
                // Its own time limit ends a step, and that of the execution ends all.
                self.is_timed_out |= end.is_timed_out && Instant::now() >= self.deadline;
                let (exit_code, signal) = match end.exit {
                    ChildExit::Code(code) => (Some(code), None),
                    ChildExit::Signal(signal) => (None, Some(signal)),
                };
                StepResult { state: state_of(&end), exit_code, signal, ..result }
            }
            Err(reason) => {
                let error = Some(bounded_to(&reason, MAX_STEP_ERROR_BYTES));
                StepResult { state: StepState::Failed, error, ..result }
            }
        };
        let is_failure = result.state != StepState::Succeeded;
        self.is_stopped = self.is_cancelled
            || self.is_timed_out
            || (is_failure && step.on_failure == OnFailure::Stop);
        Ok(result)
    }

    /// Notes how far the steps are, for people and in case that this shim is killed. Without space for it the
    /// steps run all the same.
    fn note(&self, ended: &[StepResult], running: RunningStep) {
        let progress = StepProgress { ended: ended.to_vec(), running: Some(running) };
        let bytes = storage::seal(&progress);
        match storage::replace_synced(&self.execution.dir.steps(), &bytes) {
            Ok(()) => self.execution.notifier.notify(),
            Err(error) => self
                .execution
                .log
                .line(format!("failed to note the progress of the steps: {error}")),
        }
    }

    /// Starts a step and waits for its end; or why it could not be started.
    fn start(
        &mut self,
        step: &StepLaunch,
        values: &ParameterRecord,
        started: Instant,
    ) -> Result<Result<ChildEnd, String>, ShimError> {
        let (execution, launch) = (self.execution, &step.launch);
        let found: Found = match find(execution, launch, self.account.clone()) {
            Ok(found) => found,
            Err(refusal) => return Ok(Err(refusal.to_string())),
        };
        if let Some(attested) = self.attested.last_mut() {
            attested.program_sha256 = program_sha256(launch, &found.program);
        }
        let own_deadline = started + Duration::from_millis(launch.timeout_ms);
        let deadline = self.deadline.min(own_deadline);
        let run = Run { execution, launch, found: &found, parameters: values, deadline };
        Ok(match processes::run(run, &mut self.control, &mut self.capture)? {
            RunEnd::Ended { end, .. } => Ok(end),
            RunEnd::NotStarted(text) => Err(text),
        })
    }
}

fn state_of(end: &ChildEnd) -> StepState {
    match (end.is_cancelled, end.is_timed_out, end.exit) {
        (true, ..) => StepState::Cancelled,
        (_, true, _) => StepState::TimedOut,
        (_, _, ChildExit::Code(0)) => StepState::Succeeded,
        _ => StepState::Failed,
    }
}
