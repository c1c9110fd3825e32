//! The shim: a small blocking process that runs one execution and outlives the agent.
//!
//! It shares files and a notification socket with the agent and nothing else. It knows neither
//! network nor server.

mod call;
mod capture;
mod found;
mod health;
mod log;
pub mod mask;
pub mod process_end;
mod processes;
mod recorder;
mod rehearsal;
mod service;
mod spool;
mod steps;
mod supervise;
pub mod verify;

use std::fs;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::SystemTime;

use muster_protocol::commands::attestation::AttestedRun;
use muster_protocol::frame::ExecuteResult;
use muster_protocol::package::ServiceLimits;
use uuid::Uuid;

use self::capture::OutputCapture;
use self::found::{Found, attested_step, find, program_sha256};
use self::log::Log;
use self::mask::Masks;
use self::recorder::{Recorder, RecorderLimits};
use self::rehearsal::{OutputWatch, RehearsalError, RehearsalWatch};
use self::verify::ScriptRefusal;
use crate::executions::launcher;
use crate::executions::ledger::record::{
    CancelledBy, CommandRecord, ExecutionEnd, ExitRecord, HolderRecord, Launch, ParameterRecord,
    Settlement, StartedRecord,
};
use crate::executions::notifier::Notifier;
use crate::executions::{packages, secret_files};
use crate::fault::Fault;
use crate::platform::{self, Account, ControlGroup, FileLock, LockError, ProcessStat};
use crate::storage::layout::{self, ExecutionDir};
use crate::storage::{self, StorageError, UnsyncedFile};
use muster_protocol::error_chain;

/// Why a shim can't run its execution. Nothing was started then.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    #[error("{} is not the folder of an execution", .0.display())]
    InvalidFolder(PathBuf),
    #[error("the execution already has a shim")]
    Taken,
    #[error("the execution was already started")]
    StartedBefore,
    #[error("the execution was settled before it started")]
    SettledBefore,
    #[error("the execution's parameter values are missing")]
    NoParameters,
    #[error("the execution has no command to run")]
    NothingToRun,
    #[error("failed to {action}")]
    System {
        action: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("failed to lock the execution")]
    Lock(#[source] LockError),
}

impl ShimError {
    fn system(action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::System { action, source }
    }
}

/// The execution of this shim.
struct Execution {
    dir: ExecutionDir,
    command_id: Uuid,
    launch: Launch,
    has_parameters: bool,
    /// Opened at the start: writing the result then needs neither a path nor free space.
    exit: fs::File,
    notifier: Notifier,
    log: Log,
    scripts: PathBuf,
    library: PathBuf,
    /// Of a service with limits that the system applies.
    group: Option<ControlGroup>,
    limits: Option<ServiceLimits>,
    rehearsal: Option<RehearsalWatch>,
}

/// The account of an execution, and what it starts; `None` for steps.
type FoundRun = (Option<Account>, Option<Found>);

/// Runs one execution from its folder to its exit record. Blocks until the execution has ended.
///
/// # Errors
/// [`ShimError`] if nothing could be started. A failure of the child is not an error.
pub fn run(path: PathBuf) -> Result<(), ShimError> {
    let dir = ExecutionDir::at(path);
    let log = Log::of(&dir);
    log.capture_panics();
    run_execution(dir, log.clone()).inspect_err(|error| log.line(error_chain(error)))
}

fn run_execution(dir: ExecutionDir, log: Log) -> Result<(), ShimError> {
    let invalid_folder = || ShimError::InvalidFolder(dir.path().to_owned());
    let command_id = dir.command_id().ok_or_else(invalid_folder)?;
    let state = dir.state().ok_or_else(invalid_folder)?.to_owned();

    platform::survive_termination_signals().map_err(ShimError::system("catch signals"))?;
    platform::wake_on_child_exit().map_err(ShimError::system("wake on child exits"))?;
    platform::new_session().map_err(ShimError::system("create a session"))?;
    platform::become_subreaper().map_err(ShimError::system("adopt orphans"))?;
    platform::forbid_core_dumps().map_err(ShimError::system("forbid core dumps"))?;
    let _lock = take_lock(&dir)?;

    let record: CommandRecord = storage::read_sealed(&dir.command())?.ok_or_else(invalid_folder)?;
    let has_parameters = record.has_parameters;
    let launch = record.launch.ok_or(ShimError::NothingToRun)?;
    let exit = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(dir.exit())
        .map_err(ShimError::system("open the exit record"))?;
    let notifier = Notifier::new(&state);
    let (scripts, library) = (state.join("scripts"), state.join(layout::LIBRARY));
    let mut execution = Execution {
        dir,
        command_id,
        launch,
        has_parameters,
        exit,
        notifier,
        log,
        scripts,
        library,
        group: None,
        limits: None,
        rehearsal: None,
    };
    let mut ended = execution.execute();
    if let Ok(exit) = &mut ended {
        exit.cancelled_by = launcher::cancelled_by(&execution.dir);
    }
    if let Some(group) = execution.group.take() {
        group.remove();
    }
    // Before the result is written: no secret outlives an execution that counts as ended.
    secret_files::remove(&execution.dir);
    if execution.launch.needs_download() {
        packages::remove(&execution.dir);
    }
    execution.write_exit(ended?)?;
    execution.notifier.notify();
    Ok(())
}

impl Execution {
    fn execute(&mut self) -> Result<ExitRecord, ShimError> {
        // Opened before the cancel file is checked: a request is in the file or arrives through the
        // pipe.
        let control = platform::open_control(&self.dir.control(), true)
            .map_err(ShimError::system("open the control pipe"))?;
        // The agent settles commands that have not started under the lock that is held here.
        if storage::exists(&self.dir.settled())? {
            return Err(ShimError::SettledBefore);
        }
        if storage::exists(&self.dir.started())? {
            return Err(ShimError::StartedBefore);
        }
        if storage::exists(&self.dir.cancel())? {
            return Ok(exit_without_run(ExecutionEnd::NeverStarted));
        }
        let (account, found) = match self.find_all() {
            Ok(found) => found,
            Err((code, text)) => {
                return Ok(exit_without_run(ExecutionEnd::refused(code, &text)));
            }
        };
        let parameters: Option<ParameterRecord> = storage::read_sealed(&self.dir.parameters())?;
        if self.has_parameters && parameters.is_none() {
            return Err(ShimError::NoParameters);
        }
        let parameters = parameters.unwrap_or_default();
        let masks = match Masks::of(&parameters.all_secrets()) {
            Ok(masks) => masks,
            Err(error) => {
                let text = error.to_string();
                return Ok(exit_without_run(ExecutionEnd::refused("invalid_parameters", &text)));
            }
        };
        let run = self.attested_run(found.as_ref(), &parameters);
        let watch = match self.rehearse(account.as_ref(), &parameters) {
            Ok(watch) => watch,
            Err(error) => {
                return Ok(exit_without_run(ExecutionEnd::not_spawned(&error.to_string())));
            }
        };
        let capture = OutputCapture::new(self.mark_started()?, masks).watched_by(watch);
        self.prepare_service();
        let (exit, steps) = match &found {
            Some(found) => {
                let exit = processes::run_alone(self, found, &parameters, control, capture)?;
                (exit, Vec::new())
            }
            None => steps::run(self, account, &parameters, control, capture)?,
        };
        let mut exit = exit;
        if let Some(watch) = self.rehearsal.take() {
            exit.result.rehearsal = Some(watch.finish(exit.result.rehearsal.take()));
        }
        let run = AttestedRun { ended_at_ms: unix_now_ms(), steps, ..run };
        Ok(ExitRecord { run: has_run(&exit).then_some(run), ..exit })
    }

    /// Prepares a rehearsal, if it is one.
    fn rehearse(
        &mut self,
        account: Option<&Account>,
        parameters: &ParameterRecord,
    ) -> Result<Option<OutputWatch>, RehearsalError> {
        if !self.launch.is_rehearsal {
            return Ok(None);
        }
        let secrets = &parameters.secret_parameters;
        let watch = OutputWatch::of(secrets)?;
        let run = (self.command_id, self.scripts.parent().unwrap_or(&self.scripts));
        self.rehearsal = Some(RehearsalWatch::start(run, secrets, account)?);
        Ok(Some(watch))
    }

    /// Finds and checks everything that is going to run; `None` for steps, each of which is found again when
    /// its turn comes.
    fn find_all(&self) -> Result<FoundRun, (&'static str, String)> {
        let refused = |refusal: ScriptRefusal| (refusal.code(), refusal.to_string());
        let account = verify::account(&self.launch).map_err(refused)?;
        if self.launch.steps.is_empty() {
            let found = find(self, &self.launch, account.clone()).map_err(refused)?;
            return Ok((account, Some(found)));
        }
        for (number, step) in (1..).zip(&self.launch.steps) {
            find(self, &step.launch, account.clone())
                .map_err(|refusal| (refusal.code(), format!("step {number}: {refusal}")))?;
        }
        Ok((account, None))
    }

    /// What is about to be started.
    fn attested_run(&self, found: Option<&Found>, parameters: &ParameterRecord) -> AttestedRun {
        let alone = attested_step(&self.launch, parameters);
        AttestedRun {
            script: alone.script,
            library_version: alone.library_version,
            program_sha256: found.and_then(|found| program_sha256(&self.launch, &found.program)),
            parameters_sha256: alone.parameters_sha256,
            secret_count: alone.secret_count,
            defaults_sha256: alone.defaults_sha256,
            policy: self.launch.policy.clone(),
            started_at_ms: unix_now_ms(),
            ended_at_ms: 0,
            steps: Vec::new(),
        }
    }

    /// Writes the start mark: after it no shim ever starts this execution again. One sync of the
    /// folder makes the names of the mark and of the output durable.
    fn mark_started(&self) -> Result<Recorder, ShimError> {
        let this = this_process();
        let record = StartedRecord {
            boot_id: platform::boot_id(),
            shim_pid: this.shim_pid,
            shim_start_ticks: this.shim_start_ticks,
        };
        let is_synced = !Fault::UnsyncedStart.is_on();
        let written = UnsyncedFile::create(self.dir.started(), &storage::seal(&record));
        match written.and_then(|mark| if is_synced { mark.sync() } else { Ok(()) }) {
            Ok(()) => {}
            Err(StorageError::Io { source, .. })
                if source.kind() == std::io::ErrorKind::AlreadyExists =>
            {
                return Err(ShimError::StartedBefore);
            }
            // The disk is full: nothing is started, and an incomplete mark must be removed.
            Err(error) => {
                let _ = fs::remove_file(self.dir.started());
                return Err(error.into());
            }
        }
        let limits = RecorderLimits {
            limit_bytes: self.launch.output_limit_bytes,
            quota_bytes: self.launch.output_quota_bytes,
            executions: self.dir.path().parent().unwrap_or(self.dir.path()).to_owned(),
            spool_bytes: self.launch.service.as_ref().map(|service| service.log_bytes()),
        };
        let recorder = Recorder::create(&self.dir, limits);
        if is_synced {
            storage::sync_directory(self.dir.path())?;
        }
        Ok(recorder)
    }

    /// Overwrites the space that was reserved at acceptance, so that a full disk can't prevent it.
    fn write_exit(&mut self, record: ExitRecord) -> Result<(), ShimError> {
        let bytes = storage::seal(&Settlement::Exit(Box::new(record)));
        let mut write = || {
            self.exit.seek(SeekFrom::Start(0))?;
            self.exit.write_all(&bytes)?;
            self.exit.sync_data()
        };
        write().map_err(ShimError::system("write the exit record"))
    }
}

fn unix_now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn take_lock(dir: &ExecutionDir) -> Result<FileLock, ShimError> {
    let mut lock = FileLock::take(&dir.lock()).map_err(|error| match error {
        LockError::Held => ShimError::Taken,
        error => ShimError::Lock(error),
    })?;
    let bytes = storage::seal(&this_process());
    let file = lock.file();
    let mut write = || {
        file.set_len(0)?;
        file.write_all(&bytes)
    };
    write().map_err(ShimError::system("write the lock's holder"))?;
    Ok(lock)
}

fn this_process() -> HolderRecord {
    let pid = std::process::id();
    let start = ProcessStat::of(pid).map(|process| process.start_ticks).unwrap_or_default();
    HolderRecord { shim_pid: pid, shim_start_ticks: start }
}

/// The record of an execution whose child never ran.
fn exit_without_run(ending: ExecutionEnd) -> ExitRecord {
    let result = ExecuteResult {
        exit_code: None,
        signal: None,
        duration_ms: 0,
        output_bytes: 0,
        stdout_bytes: 0,
        stderr_bytes: 0,
        dropped_bytes: 0,
        output_complete: true,
        output_sha256: None,
        stdout_sha256: None,
        stderr_sha256: None,
        steps: Vec::new(),
        rehearsal: None,
    };
    ExitRecord {
        ending,
        is_timed_out: false,
        is_cancelled: false,
        cancelled_by: CancelledBy::Server,
        is_unhealthy: false,
        result,
        run: None,
        failed_part: None,
        call: None,
    }
}

fn has_run(exit: &ExitRecord) -> bool {
    matches!(exit.ending, ExecutionEnd::Ended)
}
