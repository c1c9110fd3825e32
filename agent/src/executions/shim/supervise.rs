//! Spawns a direct child, reads its output, enforces its time limit and ends it.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use muster_protocol::commands::file_transfer::FileOperation;
use muster_protocol::commands::stdin::Stdin;
use muster_protocol::frame::output::Stream;
use muster_protocol::limits::CANCEL_GRACE_MS;

use super::capture::OutputCapture;
use super::health::HealthMonitor;
use super::process_end::{self, ChildExit};
use super::{Execution, ShimError};
use crate::executions::environment::{ENV_MARKER, allowed, for_account};
use crate::executions::file_transfers::FileWork;
use crate::executions::ledger::record::{CancelRecord, FileLaunch, Launch};
use crate::executions::program::Program;
use crate::fault::Fault;
use crate::platform::{self, Account, Signal};
use crate::storage;

/// Interval between two notifications while there is new output.
const NOTIFY_INTERVAL: Duration = Duration::from_millis(2);
/// How long pipes are read after the child and all its descendants are gone.
const DRAIN_TIME: Duration = Duration::from_secs(2);
/// Poll interval on systems where the end of a child can't be waited for.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The script or program of a run, without its variables.
pub(super) fn program_of(
    execution: &Execution,
    launch: &Launch,
    program: &Path,
    interpreter: Option<&Path>,
) -> Program {
    if let Some(file) = &launch.file {
        return transfer(execution, file, program);
    }
    if launch.is_probe {
        return own_program(program, vec!["probe".into()]);
    }
    // A package finds its own files beside it.
    let package = launch.package.as_ref().and_then(|_| execution.dir.package());
    let scripts = || package.clone().unwrap_or_else(|| execution.scripts.clone());
    let (path, name, mut arguments, folder) = match (launch.argv.split_first(), interpreter) {
        (Some((name, arguments)), _) => {
            let arguments = arguments.iter().map(OsString::from).collect();
            (program, Some(name.clone()), arguments, PathBuf::from("/"))
        }
        (None, Some(interpreter)) => (interpreter, None, vec![program.into()], scripts()),
        (None, None) => (program, None, Vec::new(), scripts()),
    };
    arguments.extend(launch.args.iter().map(OsString::from));
    Program {
        path: path.to_owned(),
        name,
        arguments,
        folder,
        variables: Vec::new(),
        stdin: None,
        input: None,
    }
}

/// The process that transfers a file. It gets the content as its standard input, so that its user needs no
/// access to the folder of the execution.
fn transfer(execution: &Execution, file: &FileLaunch, program: &Path) -> Program {
    let work = FileWork {
        command_id: execution.command_id,
        state_dir: execution.dir.state().unwrap_or(Path::new("/")).to_owned(),
        file: file.clone(),
    };
    let work = serde_json::to_string(&work).unwrap_or_default();
    let input = (file.operation == FileOperation::Push).then(|| execution.dir.archive());
    Program { input, ..own_program(program, vec!["transfer-file".into(), work.into()]) }
}

/// This program, in another mode.
fn own_program(program: &Path, arguments: Vec<OsString>) -> Program {
    Program {
        path: program.to_owned(),
        name: Some("muster-agent".to_owned()),
        arguments,
        folder: PathBuf::from("/"),
        variables: Vec::new(),
        stdin: None,
        input: None,
    }
}

/// Starts a program, without a shell.
///
/// # Errors
/// The system's error; also if the child may not become the configured user.
pub fn spawn(
    execution: &Execution,
    program: &Program,
    account: Option<&Account>,
) -> io::Result<Child> {
    command(execution, program, account)?.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
}

/// Starts a program whose output is not kept.
///
/// # Errors
/// As [`spawn`].
pub fn spawn_silent(
    execution: &Execution,
    program: &Program,
    account: Option<&Account>,
) -> io::Result<Child> {
    command(execution, program, account)?.stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

fn command(
    execution: &Execution,
    program: &Program,
    account: Option<&Account>,
) -> io::Result<Command> {
    if Fault::FailingStarts.is_on() {
        return Err(io::Error::other("a fault is injected"));
    }
    let mut command = Command::new(&program.path);
    if let Some(name) = &program.name {
        command.arg0(name);
    }
    command
        .args(&program.arguments)
        .current_dir(&program.folder)
        .env_clear()
        .envs(allowed())
        .envs(account.into_iter().flat_map(for_account))
        .envs(program.variables.iter().map(|(name, value)| (name, value)))
        .env(ENV_MARKER, execution.command_id.hyphenated().to_string())
        .process_group(0)
        .stdin(match &program.input {
            Some(path) => File::open(path)?.into(),
            None => standard_input(execution, program.stdin.as_ref(), account)?,
        });
    if let Some(group) = &execution.group {
        let mut entrance = group.entrance()?;
        // SAFETY: a write to an open file allocates nothing and takes no lock. It comes before the process
        // becomes another user, who may not enter.
        unsafe { command.pre_exec(move || entrance.write_all(b"0")) };
    }
    if let Some(account) = account.cloned() {
        // SAFETY: between fork and exec nothing is allocated and no lock is taken, and this process
        // has only one thread, so no other thread can hold a lock.
        unsafe { command.pre_exec(move || account.become_user()) };
    }
    Ok(command)
}

/// A file without a name that has the input: a script that reads slowly or not at all blocks nothing.
fn standard_input(
    execution: &Execution,
    stdin: Option<&Stdin>,
    account: Option<&Account>,
) -> io::Result<Stdio> {
    let Some(stdin) = stdin else { return Ok(Stdio::null()) };
    let path = execution.dir.path().join("stdin");
    // A shim that was killed before it started the script may have left one.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    let input = File::open(&path)?;
    std::fs::remove_file(&path)?;
    file.write_all(stdin.bytes())?;
    if let Some(account) = account {
        // A script may open `/dev/stdin`.
        account.own(&file)?;
    }
    Ok(input.into())
}

/// How far the termination of a run has progressed.
#[derive(Debug, Clone, Copy)]
enum KillStage {
    Running,
    /// TERM was sent; KILL follows at this instant.
    Terminating {
        kill_at: Instant,
    },
    Killed,
}

/// A running child with its pipes and limits.
struct ChildSupervisor<'a> {
    child_id: u32,
    process: Option<OwnedFd>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    capture: &'a mut OutputCapture,
    kill_stage: KillStage,
    deadline: Instant,
    is_timed_out: bool,
    is_cancelled: bool,
    is_unhealthy: bool,
    health: Option<HealthMonitor<'a>>,
    notified_at: Option<Instant>,
    has_news: bool,
}

/// How a child and its descendants ended.
#[derive(Debug, Clone, Copy)]
pub struct ChildEnd {
    pub exit: ChildExit,
    /// The end of the child itself.
    pub ended_at: Instant,
    pub is_timed_out: bool,
    pub is_cancelled: bool,
    /// The checks of a service failed.
    pub is_unhealthy: bool,
}

/// Supervises a direct child until it and all its descendants have ended.
///
/// # Errors
/// [`ShimError`] if the system can't wait for the child.
pub fn supervise(
    execution: &Execution,
    mut child: Child,
    control: &mut File,
    capture: &mut OutputCapture,
    deadline: Instant,
    health: Option<HealthMonitor<'_>>,
) -> Result<ChildEnd, ShimError> {
    let mut supervisor = ChildSupervisor::new(&mut child, capture, deadline, health)?;
    let exit = loop {
        if let Some(exit) = supervisor.reap().map_err(ShimError::system("wait"))? {
            break exit;
        }
        supervisor.check_health(execution);
        supervisor.advance_kill_stage();
        let mut timeout = supervisor.next_timeout();
        if let Some(rehearsal) = &execution.rehearsal {
            rehearsal.sample();
            timeout = timeout.min(rehearsal.next_sample());
        }
        let ready = platform::wait_readable(
            [
                supervisor.stdout.as_ref().map(|pipe| pipe.as_fd()),
                supervisor.stderr.as_ref().map(|pipe| pipe.as_fd()),
                supervisor.process.as_ref().map(|process| process.as_fd()),
                Some(control.as_fd()),
                supervisor.health.as_ref().and_then(HealthMonitor::process),
            ],
            Some(timeout),
        )
        .map_err(ShimError::system("wait for output"))?;
        supervisor.read([ready[0], ready[1]]);
        if ready[3] {
            platform::drain(control);
            supervisor.cancel(execution);
        }
        supervisor.notify(execution);
    };
    let ended_at = Instant::now();
    if !process_end::kill_descendants() {
        execution.log.line("failed to end all processes of this execution");
    }
    supervisor.drain(Instant::now() + DRAIN_TIME);
    let ChildSupervisor { is_timed_out, is_cancelled, is_unhealthy, .. } = supervisor;
    Ok(ChildEnd { exit, ended_at, is_timed_out, is_cancelled, is_unhealthy })
}

impl<'a> ChildSupervisor<'a> {
    fn new(
        child: &mut Child,
        capture: &'a mut OutputCapture,
        deadline: Instant,
        health: Option<HealthMonitor<'a>>,
    ) -> Result<Self, ShimError> {
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let pipes = [stdout.as_ref().map(|pipe| pipe.as_fd()), stderr.as_ref().map(|p| p.as_fd())];
        for pipe in pipes.into_iter().flatten() {
            platform::set_nonblocking(pipe).map_err(ShimError::system("set up a pipe"))?;
            platform::enlarge_pipe(&pipe);
        }
        Ok(Self {
            child_id: child.id(),
            process: platform::open_process(child.id()).ok(),
            stdout,
            stderr,
            capture,
            kill_stage: KillStage::Running,
            deadline,
            is_timed_out: false,
            is_cancelled: false,
            is_unhealthy: false,
            health,
            notified_at: None,
            has_news: false,
        })
    }

    /// The end of the child, and of its checks.
    fn reap(&mut self) -> io::Result<Option<ChildExit>> {
        let health = &mut self.health;
        process_end::reap_child(self.child_id, &mut |pid, is_success| {
            if let Some(health) = health.as_mut() {
                health.handle_exit(pid, is_success);
            }
        })
    }

    /// Ends a service whose checks fail.
    fn check_health(&mut self, execution: &Execution) {
        let Some(health) = &mut self.health else { return };
        if !matches!(self.kill_stage, KillStage::Running) {
            return;
        }
        health.advance();
        if health.is_unhealthy() {
            self.is_unhealthy = true;
            let grace_ms = execution.launch.service.as_ref().and_then(|it| it.stop_grace_ms);
            self.terminate(Duration::from_millis(grace_ms.unwrap_or(CANCEL_GRACE_MS)));
        }
    }

    /// Sends TERM when the time is up, and KILL when the grace period is over.
    fn advance_kill_stage(&mut self) {
        let now = Instant::now();
        match self.kill_stage {
            KillStage::Running if now >= self.deadline => {
                self.is_timed_out = true;
                self.terminate(Duration::from_millis(CANCEL_GRACE_MS));
            }
            KillStage::Terminating { kill_at } if now >= kill_at => {
                self.kill_stage = KillStage::Killed;
                process_end::signal_all(self.child_id, Signal::Kill);
            }
            _ => {}
        }
    }

    fn cancel(&mut self, execution: &Execution) {
        // A child that has ended meanwhile keeps its real result.
        if !matches!(self.kill_stage, KillStage::Running) || process_end::has_ended(self.child_id) {
            return;
        }
        let asked: Option<CancelRecord> =
            storage::read_sealed(&execution.dir.cancel()).ok().flatten();
        let grace_ms = asked.map_or(CANCEL_GRACE_MS, |record| record.grace_ms);
        self.is_cancelled = true;
        self.terminate(Duration::from_millis(grace_ms));
    }

    fn terminate(&mut self, grace: Duration) {
        self.kill_stage = KillStage::Terminating { kill_at: Instant::now() + grace };
        process_end::signal_all(self.child_id, Signal::Term);
    }

    fn next_timeout(&self) -> Duration {
        let now = Instant::now();
        let mut until = match self.kill_stage {
            KillStage::Running => {
                let next = self.health.as_ref().map(HealthMonitor::next_at);
                let until = next.map_or(self.deadline, |at| at.min(self.deadline));
                until.saturating_duration_since(now)
            }
            KillStage::Terminating { kill_at } => kill_at.saturating_duration_since(now),
            KillStage::Killed => Duration::from_secs(1),
        };
        if self.has_news {
            until = until.min(NOTIFY_INTERVAL);
        }
        if self.process.is_none() {
            until = until.min(POLL_INTERVAL);
        }
        if let Some(look_in) = self.capture.look_in() {
            until = until.min(look_in);
        }
        until
    }

    /// Reads the available output of both pipes, up to a limit. True if there may be more.
    fn read(&mut self, [is_out_ready, is_err_ready]: [bool; 2]) -> bool {
        let mut may_have_more = false;
        for progress in [
            is_out_ready.then(|| self.capture.read(&mut self.stdout, Stream::Stdout)),
            is_err_ready.then(|| self.capture.read(&mut self.stderr, Stream::Stderr)),
        ]
        .into_iter()
        .flatten()
        {
            self.has_news |= progress.has_read;
            may_have_more |= progress.may_have_more;
        }
        may_have_more
    }

    /// All descendants are gone, so the pipes end, unless another process holds one open.
    fn drain(&mut self, until: Instant) {
        loop {
            let may_have_more = self.read([true, true]);
            if self.stdout.is_none() && self.stderr.is_none() {
                return;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.capture.mark_incomplete();
                return;
            }
            let pipes = [
                self.stdout.as_ref().map(|pipe| pipe.as_fd()),
                self.stderr.as_ref().map(|pipe| pipe.as_fd()),
            ];
            if !may_have_more && platform::wait_readable(pipes, Some(left)).is_err() {
                self.capture.mark_incomplete();
                return;
            }
        }
    }

    fn notify(&mut self, execution: &Execution) {
        self.has_news |= self.capture.store_waiting();
        let is_due = self.notified_at.is_none_or(|at| at.elapsed() >= NOTIFY_INTERVAL);
        if self.has_news && is_due {
            self.capture.flush();
            execution.notifier.notify();
            self.notified_at = Some(Instant::now());
            self.has_news = false;
        }
    }
}
