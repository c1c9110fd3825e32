//! The processes of one run, one after the other: the installation of what the script needs, its
//! trigger, and the script itself. The first that does not succeed is the last.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use muster_protocol::library::{CallPart, file_bytes};
use muster_protocol::parameter::secret_parameters::SecretDelivery;

use super::call::{self, CallFiles};
use super::capture::OutputCapture;
use super::found::Found;
use super::health::HealthMonitor;
use super::process_end::ChildExit;
use super::supervise::{self, ChildEnd, program_of};
use super::{Execution, ShimError, exit_without_run, verify};
use crate::executions::environments::{Environment, EnvironmentError, PackageKind, Prepared};
use crate::executions::ledger::record::{
    CancelledBy, ExecutionEnd, ExitRecord, FailedPart, Launch, ParameterRecord,
};
use crate::executions::program::Program;
use crate::executions::secret_files;

/// Environment variables.
type Variables = Vec<(OsString, OsString)>;

/// One run: that of an execution, or of one of its steps.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    pub execution: &'a Execution,
    pub launch: &'a Launch,
    pub found: &'a Found,
    pub parameters: &'a ParameterRecord,
    pub deadline: Instant,
}

/// How a run ended.
pub enum RunEnd {
    Ended {
        end: ChildEnd,
        /// The process before the script itself that was the last one.
        part: Option<FailedPart>,
        /// Of a call.
        last_part: Option<CallPart>,
    },
    /// Nothing could be started, or not the next process. A sentence for people.
    NotStarted(String),
}

/// Why a process could not be started.
enum ProcessError {
    /// A sentence for people.
    NotStarted(String),
    Shim(ShimError),
}

impl From<ShimError> for ProcessError {
    fn from(error: ShimError) -> Self {
        Self::Shim(error)
    }
}

/// The processes of a run, with what they share.
struct Processes<'a> {
    execution: &'a Execution,
    launch: &'a Launch,
    found: &'a Found,
    control: &'a mut File,
    capture: &'a mut OutputCapture,
    deadline: Instant,
    /// The last process that was started.
    part: Option<FailedPart>,
    last_part: Option<CallPart>,
}

/// Runs all processes. Blocks until the last one has ended.
///
/// # Errors
/// [`ShimError`] if the system can't wait for a child.
pub fn run(
    run: Run<'_>,
    control: &mut File,
    capture: &mut OutputCapture,
) -> Result<RunEnd, ShimError> {
    let Run { execution, launch, found, parameters, deadline } = run;
    let mut processes = Processes {
        execution,
        launch,
        found,
        control,
        capture,
        deadline,
        part: None,
        last_part: None,
    };
    match processes.run(parameters) {
        Ok(end) => Ok(RunEnd::Ended { end, part: processes.part, last_part: processes.last_part }),
        Err(ProcessError::Shim(error)) => Err(error),
        Err(ProcessError::NotStarted(text)) => Ok(RunEnd::NotStarted(text)),
    }
}

/// Runs an execution without steps. Blocks until it has ended.
///
/// # Errors
/// [`ShimError`] if the system can't wait for a child.
pub fn run_alone(
    execution: &Execution,
    found: &Found,
    parameters: &ParameterRecord,
    mut control: File,
    mut capture: OutputCapture,
) -> Result<ExitRecord, ShimError> {
    let started = Instant::now();
    let launch = &execution.launch;
    let deadline = started + Duration::from_millis(launch.timeout_ms);
    let alone = Run { execution, launch, found, parameters, deadline };
    let (end, part, last_part) = match run(alone, &mut control, &mut capture)? {
        RunEnd::Ended { end, part, last_part } => (end, part, last_part),
        RunEnd::NotStarted(text) => {
            return Ok(exit_without_run(ExecutionEnd::not_spawned(&text)));
        }
    };
    let is_success = is_success(&end);
    let call = launch
        .call
        .as_ref()
        .map(|call| call::report(execution, found.account.as_ref(), call, last_part, is_success));
    let mut result = capture.finish(millis(end.ended_at.saturating_duration_since(started)));
    match end.exit {
        ChildExit::Code(code) => result.exit_code = Some(code),
        ChildExit::Signal(signal) => result.signal = Some(signal),
    }
    Ok(ExitRecord {
        ending: ExecutionEnd::Ended,
        is_timed_out: end.is_timed_out,
        is_cancelled: end.is_cancelled,
        cancelled_by: CancelledBy::Server,
        is_unhealthy: end.is_unhealthy,
        result,
        run: None,
        failed_part: if is_success { None } else { part },
        call,
    })
}

impl<'a> Processes<'a> {
    fn run(&mut self, parameters: &ParameterRecord) -> Result<ChildEnd, ProcessError> {
        let environment = self.environment()?;
        let (mut installed, mut packages) = (None, None);
        if let Some(environment) = &environment {
            if let Some(end) = self.install(environment)? {
                return Ok(end);
            }
            (installed, packages) = (environment.interpreter(), environment.variable());
        }
        let (mut variables, files) = self.variables(parameters)?;
        variables.extend(packages);
        let interpreter = installed.as_deref().or(self.found.interpreter.as_deref());
        let mut program = program_of(self.execution, self.launch, &self.found.program, interpreter);
        if let Some(rehearsal) = &self.execution.rehearsal {
            program.folder = rehearsal.working_folder();
            variables.push(rehearsal.variable());
        }
        let (Some(call), Some(files)) = (&self.launch.call, files) else {
            self.part = None;
            let stdin = parameters.stdin.clone();
            return self.script(Program { variables, stdin, ..program });
        };
        variables.extend(files.variables(call));
        let is_python = self.launch.interpreter.as_deref() == Some("python");
        let part = |part: CallPart| {
            let program = match is_python {
                true => call::python_part(program.clone()),
                false => program.clone(),
            };
            let mut variables = variables.clone();
            variables.push((call::PART.into(), part.as_str().into()));
            Program { variables, ..program }
        };
        if !call.is_forced {
            (self.part, self.last_part) = (Some(FailedPart::Trigger), Some(CallPart::Trigger));
            let end = self.script(part(CallPart::Trigger))?;
            let account = self.found.account.as_ref();
            if !is_success(&end) || !call::runs_main(self.execution, account) {
                return Ok(end);
            }
        }
        (self.part, self.last_part) = (None, Some(CallPart::Main));
        self.script(part(CallPart::Main))
    }

    /// The environment with the packages that the script needs, ready or not.
    fn environment(&self) -> Result<Option<Environment>, ProcessError> {
        let Some(requirements) = &self.launch.requirements else { return Ok(None) };
        let kind = PackageKind::of(self.launch.interpreter.as_deref());
        let interpreter = self.found.interpreter.as_deref().unwrap_or(Path::new(kind.program()));
        let (program, account) = ((kind, interpreter), self.found.account.as_ref());
        let opened = Environment::open(&self.execution.dir, program, requirements, account);
        opened.map(Some).map_err(dependencies_failed)
    }

    /// Installs what the script needs, if it is not there. The end of the installation if it did not
    /// succeed.
    fn install(&mut self, environment: &Environment) -> Result<Option<ChildEnd>, ProcessError> {
        self.part = Some(FailedPart::Dependencies);
        let account = self.found.account.as_ref();
        let Prepared::Missing(build) = environment.prepare(account).map_err(dependencies_failed)?
        else {
            return Ok(None);
        };
        let spawned = supervise::spawn(self.execution, &build, account);
        let child = spawned.map_err(|error| dependencies_failed(error.into()))?;
        self.execution.notifier.notify();
        let end = self.supervise(child, None)?;
        if !is_success(&end) {
            environment.discard();
            return Ok(Some(end));
        }
        environment.publish().map_err(dependencies_failed)?;
        Ok(None)
    }

    fn script(&mut self, program: Program) -> Result<ChildEnd, ProcessError> {
        let (execution, found) = (self.execution, self.found);
        let health = self.health_monitor(&program);
        match supervise::spawn(execution, &program, found.account.as_ref()) {
            Ok(child) => {
                execution.notifier.notify();
                Ok(self.supervise(child, health)?)
            }
            Err(error) => Err(ProcessError::NotStarted(not_spawned(self.launch, &error))),
        }
    }

    /// The monitor of a service with a check, which is started as the service is.
    fn health_monitor(&self, service: &Program) -> Option<HealthMonitor<'a>> {
        let (execution, found) = (self.execution, self.found);
        let check = self.launch.service.as_ref()?.health.as_ref()?;
        let folder = execution.dir.package();
        let entry = verify::package_entry(folder.as_deref(), &check.entry).ok();
        let program = entry.map(|entry| {
            let (path, mut arguments) = match &found.interpreter {
                Some(interpreter) => (interpreter.clone(), vec![entry.into_os_string()]),
                None => (entry, Vec::new()),
            };
            arguments.extend(check.argv.iter().map(OsString::from));
            Program { path, name: None, arguments, stdin: None, input: None, ..service.clone() }
        });
        let start = move || match &program {
            Some(program) => supervise::spawn_silent(execution, program, found.account.as_ref()),
            // The package has no such file.
            None => Err(io::ErrorKind::NotFound.into()),
        };
        Some(HealthMonitor::new(execution, check, Box::new(start)))
    }

    fn supervise(
        &mut self,
        child: std::process::Child,
        health: Option<HealthMonitor<'_>>,
    ) -> Result<ChildEnd, ShimError> {
        supervise::supervise(
            self.execution,
            child,
            self.control,
            self.capture,
            self.deadline,
            health,
        )
    }

    /// The variables of parameters and secrets, and the files of a call. Secrets are passed by value, or
    /// by the paths of files with them.
    fn variables(
        &self,
        parameters: &ParameterRecord,
    ) -> Result<(Variables, Option<CallFiles>), ProcessError> {
        let launch = self.launch;
        let is_file = |name: &String| launch.file_parameters.contains(name);
        let open = parameters.parameters.iter().filter(|(name, _)| !is_file(name));
        let mut variables: Vec<(OsString, OsString)> =
            open.map(|(name, value)| (name.into(), value.into())).collect();
        let secrets = &parameters.secret_parameters;
        let mut files: Vec<(&str, &[u8])> = Vec::new();
        if launch.secrets == SecretDelivery::File {
            files.extend(secrets.iter().map(|(name, value)| (name, value.as_bytes())));
        } else {
            variables.extend(secrets.iter().map(|(name, value)| (name.into(), value.into())));
        }
        let contents = parameters.parameters.iter().filter(|(name, _)| is_file(name));
        // They were checked before the execution was accepted.
        let contents: Vec<(&str, Vec<u8>)> = contents
            .map(|(name, value)| (name.as_str(), file_bytes(value).unwrap_or_default()))
            .collect();
        files.extend(contents.iter().map(|(name, bytes)| (*name, bytes.as_slice())));
        for file in launch.call.iter().flat_map(call::files) {
            files.push(file);
        }
        if files.is_empty() {
            return Ok((variables, None));
        }
        let account = self.found.account.as_ref();
        let written = secret_files::write(&self.execution.dir, &files, account);
        let written = written.map_err(|error| {
            let text = format!("the files of the execution could not be written: {error}");
            ProcessError::NotStarted(text)
        })?;
        let (call_files, secrets) = CallFiles::split(written, launch.call.is_some());
        variables.extend(secrets.into_iter().map(|(name, path)| (name.into(), path.into())));
        Ok((variables, call_files))
    }
}

pub fn is_success(end: &ChildEnd) -> bool {
    end.exit == ChildExit::Code(0) && !end.is_timed_out && !end.is_cancelled
}

fn dependencies_failed(error: EnvironmentError) -> ProcessError {
    ProcessError::NotStarted(format!("the script's dependencies can't be installed: {error}"))
}

fn not_spawned(launch: &Launch, error: &io::Error) -> String {
    let user = launch.run_as.as_ref();
    let user = user.map(|user| format!(" as `{user}`")).unwrap_or_default();
    let (what, is_script) = match launch.argv.first() {
        _ if launch.is_probe => ("agent's program", false),
        Some(_) => ("program", false),
        None => ("script", true),
    };
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied if is_script => {
            "; give that user access to the script and the folders above it, and make the script \
             executable or set its interpreter in the manifest"
        }
        _ => "",
    };
    format!("the {what} could not be started{user}: {error}{hint}")
}

pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
