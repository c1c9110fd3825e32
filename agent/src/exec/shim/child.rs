//! The direct child: spawned, listened to, timed, ended.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use muster_protocol::frame::output::Stream;
use muster_protocol::limits::CANCEL_GRACE_MS;

use super::ending::{self, Exit};
use super::intake::Intake;
use super::{Job, ShimError};
use crate::exec::environment::{MARK, allowed, of_account};
use crate::ledger::record::{CancelRecord, Ending, ExitRecord, ParameterRecord};
use crate::platform::{self, Account, Signal};
use crate::storage;

/// Between two rings while output keeps coming.
const BELL_PAUSE: Duration = Duration::from_millis(2);
/// How long pipes are read after the child and all below it are gone.
const DRAIN_TIME: Duration = Duration::from_secs(2);
/// How often a child is looked at where its end can't be waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Starts the script or program: argv only, nothing is interpreted.
///
/// # Errors
/// Whatever the system says; also if it does not let the child become the user it is to be.
pub fn spawn(
    job: &Job,
    program: &Path,
    account: Option<Account>,
    parameters: &ParameterRecord,
) -> io::Result<Child> {
    let mut command = match (job.launch.argv.split_first(), &job.launch.interpreter) {
        (Some((name, arguments)), _) => {
            let mut command = Command::new(program);
            // Some programs are many by the name they are called by.
            command.arg0(name).args(arguments).current_dir("/");
            command
        }
        (None, Some(interpreter)) => {
            let mut command = Command::new(interpreter);
            command.arg(program).current_dir(&job.scripts);
            command
        }
        (None, None) => {
            let mut command = Command::new(program);
            command.current_dir(&job.scripts);
            command
        }
    };
    command
        .args(&job.launch.args)
        .env_clear()
        .envs(allowed())
        .envs(account.iter().flat_map(of_account))
        .envs(&parameters.parameters)
        .envs(parameters.secret_parameters.iter())
        .env(MARK, job.command_id.hyphenated().to_string())
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(account) = account {
        // SAFETY: between fork and exec nothing is allocated and no lock is taken; and this process
        // has one thread, so that nobody could hold one.
        unsafe { command.pre_exec(move || account.assume()) };
    }
    command.spawn()
}

/// How far the ending of a run is.
#[derive(Debug, Clone, Copy)]
enum Course {
    Running,
    /// Asked to end; killed at the instant.
    Asked {
        kill_at: Instant,
    },
    Killed,
}

/// A run in progress.
struct Run {
    child_id: u32,
    process: Option<OwnedFd>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    intake: Intake,
    course: Course,
    deadline: Instant,
    is_timed_out: bool,
    is_cancelled: bool,
    rung_at: Option<Instant>,
    has_news: bool,
}

/// Sees the run to its end: the exit of the direct child, then of everything below it.
///
/// # Errors
/// [`ShimError`] if the system does not even let it wait.
pub fn attend(
    job: &Job,
    mut child: Child,
    mut control: File,
    intake: Intake,
    started: Instant,
) -> Result<ExitRecord, ShimError> {
    let mut run = Run::new(job, &mut child, intake, started)?;
    let exit = loop {
        if let Some(exit) = ending::exit_of(run.child_id).map_err(ShimError::system("wait"))? {
            break exit;
        }
        run.advance_course();
        let ready = platform::wait_readable(
            [
                run.stdout.as_ref().map(|pipe| pipe.as_fd()),
                run.stderr.as_ref().map(|pipe| pipe.as_fd()),
                run.process.as_ref().map(|process| process.as_fd()),
                Some(control.as_fd()),
            ],
            Some(run.until_next()),
        )
        .map_err(ShimError::system("wait for output"))?;
        run.read([ready[0], ready[1]]);
        if ready[3] {
            platform::drain(&mut control);
            run.cancel(job);
        }
        run.ring(job);
    };
    let duration_ms = started.elapsed().as_millis() as u64;
    if !ending::end_descendants() {
        job.log.line("some processes of this job could not be ended");
    }
    run.drain(Instant::now() + DRAIN_TIME);
    let mut result = run.intake.finish(duration_ms);
    match exit {
        Exit::Code(code) => result.exit_code = Some(code),
        Exit::Signal(signal) => result.signal = Some(signal),
    }
    Ok(ExitRecord {
        ending: Ending::Ended,
        is_timed_out: run.is_timed_out,
        is_cancelled: run.is_cancelled,
        result,
    })
}

impl Run {
    fn new(
        job: &Job,
        child: &mut Child,
        intake: Intake,
        started: Instant,
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
            intake,
            course: Course::Running,
            deadline: started + Duration::from_millis(job.launch.timeout_ms),
            is_timed_out: false,
            is_cancelled: false,
            rung_at: None,
            has_news: false,
        })
    }

    /// Ends the run if its time is up, and more firmly if it has been asked before.
    fn advance_course(&mut self) {
        let now = Instant::now();
        match self.course {
            Course::Running if now >= self.deadline => {
                self.is_timed_out = true;
                self.ask(Duration::from_millis(CANCEL_GRACE_MS));
            }
            Course::Asked { kill_at } if now >= kill_at => {
                self.course = Course::Killed;
                ending::signal_all(self.child_id, Signal::Kill);
            }
            _ => {}
        }
    }

    fn cancel(&mut self, job: &Job) {
        // A child that has ended meanwhile keeps its real result.
        if !matches!(self.course, Course::Running) || ending::has_ended(self.child_id) {
            return;
        }
        let asked: Option<CancelRecord> = storage::read_sealed(&job.dir.cancel()).ok().flatten();
        let grace_ms = asked.map_or(CANCEL_GRACE_MS, |record| record.grace_ms);
        self.is_cancelled = true;
        self.ask(Duration::from_millis(grace_ms));
    }

    fn ask(&mut self, grace: Duration) {
        self.course = Course::Asked { kill_at: Instant::now() + grace };
        ending::signal_all(self.child_id, Signal::Term);
    }

    fn until_next(&self) -> Duration {
        let now = Instant::now();
        let mut until = match self.course {
            Course::Running => self.deadline.saturating_duration_since(now),
            Course::Asked { kill_at } => kill_at.saturating_duration_since(now),
            Course::Killed => Duration::from_secs(1),
        };
        if self.has_news {
            until = until.min(BELL_PAUSE);
        }
        if self.process.is_none() {
            until = until.min(LOOK_AGAIN);
        }
        until
    }

    /// Reads what there is of stdout and stderr, up to a bound. True if there may be more.
    fn read(&mut self, [is_out_ready, is_err_ready]: [bool; 2]) -> bool {
        let mut may_have_more = false;
        for turn in [
            is_out_ready.then(|| self.intake.read(&mut self.stdout, Stream::Stdout)),
            is_err_ready.then(|| self.intake.read(&mut self.stderr, Stream::Stderr)),
        ]
        .into_iter()
        .flatten()
        {
            self.has_news |= turn.has_read;
            may_have_more |= turn.may_have_more;
        }
        may_have_more
    }

    /// Everything below the child is gone, so the pipes end; unless a stranger was given one.
    fn drain(&mut self, until: Instant) {
        loop {
            let may_have_more = self.read([true, true]);
            if self.stdout.is_none() && self.stderr.is_none() {
                return;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.intake.note_unread();
                return;
            }
            let pipes = [
                self.stdout.as_ref().map(|pipe| pipe.as_fd()),
                self.stderr.as_ref().map(|pipe| pipe.as_fd()),
            ];
            if !may_have_more && platform::wait_readable(pipes, Some(left)).is_err() {
                self.intake.note_unread();
                return;
            }
        }
    }

    fn ring(&mut self, job: &Job) {
        let is_due = self.rung_at.is_none_or(|at| at.elapsed() >= BELL_PAUSE);
        if self.has_news && is_due {
            self.intake.flush();
            job.bell.ring();
            self.rung_at = Some(Instant::now());
            self.has_news = false;
        }
    }
}
