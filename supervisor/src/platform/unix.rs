//! Unix: signals wake a `poll` through a socket pair; children are reaped with `waitpid`.
//!
//! No thread and no signal mask, so a child starts with the signal state that `exec` gives it.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, Uid};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};

use super::{Request, whole_milliseconds};
use crate::policy::End;

const REQUESTS: [(i32, Request); 3] =
    [(SIGTERM, Request::Terminate), (SIGINT, Request::Interrupt), (SIGHUP, Request::HangUp)];

/// This process's view of its signals and of its one child.
#[derive(Debug)]
pub struct Host {
    wakeups: UnixStream,
    requested: [Arc<AtomicBool>; REQUESTS.len()],
    agent: Option<Pid>,
}

impl Host {
    /// Takes over SIGTERM, SIGINT, SIGHUP and SIGCHLD of this process.
    ///
    /// # Errors
    /// What the system said when it refused a handler or a descriptor.
    pub fn new() -> io::Result<Self> {
        let (wakeups, waker) = UnixStream::pair()?;
        wakeups.set_nonblocking(true)?;
        let requested: [Arc<AtomicBool>; REQUESTS.len()] = Default::default();
        for ((number, _), flag) in REQUESTS.iter().zip(&requested) {
            // Flag before wake-up: actions run in the order of registration.
            signal_hook::flag::register(*number, Arc::clone(flag))?;
            signal_hook::low_level::pipe::register(*number, waker.try_clone()?)?;
        }
        signal_hook::low_level::pipe::register(SIGCHLD, waker)?;
        Ok(Self { wakeups, requested, agent: None })
    }

    /// Rests until a signal came in or `timeout` has passed. May return early.
    ///
    /// # Errors
    /// What the system said; there is nothing to wait with then.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = timeout.map_or(PollTimeout::NONE, |timeout| {
            PollTimeout::try_from(whole_milliseconds(timeout)).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut [PollFd::new(self.wakeups.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut bytes = [0; 64];
        while matches!(self.wakeups.read(&mut bytes), Ok(count) if count > 0) {}
        Ok(())
    }

    /// The next request from outside that was not taken yet.
    pub fn take_request(&self) -> Option<Request> {
        REQUESTS
            .iter()
            .zip(&self.requested)
            .find(|(_, flag)| flag.swap(false, Ordering::SeqCst))
            .map(|((_, request), _)| *request)
    }

    /// Starts the agent; only one at a time. It gets its own process group, so that a keyboard's
    /// interrupt reaches it once, through us.
    ///
    /// # Errors
    /// What the system said; no process is left then.
    pub fn start_agent(&mut self, command: &mut Command) -> io::Result<u32> {
        command.process_group(0);
        #[cfg(target_os = "linux")]
        super::linux::end_with_parent(command);
        let id = command.spawn()?.id();
        // Zero and below would address whole groups.
        self.agent = i32::try_from(id).ok().filter(|id| *id > 0).map(Pid::from_raw);
        Ok(id)
    }

    /// Collects every child that has ended, adopted orphans included; the agent's end, if it was
    /// among them.
    pub fn reap(&mut self) -> Option<End> {
        let mut ended = None;
        loop {
            let (pid, end) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, End::Exited(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, End::Signalled(signal as i32)),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return ended,
                // A real-time signal has no name in `nix`: the child is collected all the same,
                // and whether it was the agent shows in that it is gone.
                Err(Errno::EINVAL) => match self.vanished_agent() {
                    Some(pid) => (pid, End::Signalled(0)),
                    None => continue,
                },
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(_) => return ended,
            };
            if Some(pid) == self.agent {
                self.agent = None;
                ended = Some(end);
            }
        }
    }

    /// Passes a request on to the agent, and to it alone: its jobs are not ours to stop.
    pub fn pass_on(&self, request: Request) {
        self.signal_agent(match request {
            Request::Terminate => Signal::SIGTERM,
            Request::Interrupt => Signal::SIGINT,
            Request::HangUp => Signal::SIGHUP,
        });
    }

    /// Ends the agent at once.
    pub fn kill_agent(&self) {
        self.signal_agent(Signal::SIGKILL);
    }

    fn signal_agent(&self, signal: Signal) {
        // Not reaped yet, hence the number can't belong to another process; and if it has ended
        // already there is nothing left to tell.
        if let Some(pid) = self.agent {
            let _ = kill(pid, signal);
        }
    }

    fn vanished_agent(&self) -> Option<Pid> {
        self.agent.filter(|pid| kill(*pid, None) == Err(Errno::ESRCH))
    }
}

/// Puts another program in the place of this one, in the same process. Comes back only with the
/// reason why it could not.
pub fn become_program(program: &Path, arguments: impl Iterator<Item = OsString>) -> io::Error {
    Command::new(program).args(arguments).exec()
}

/// Whether a process runs a program out of this folder; `None` if that can't be told.
pub fn runs_from(folder: &Path) -> Option<bool> {
    // Without /proc nothing is known, and nothing is removed.
    let mut is_any_known = false;
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        // A process of another user does not tell; its program is not ours.
        let Ok(program) = std::fs::read_link(entry.path().join("exe")) else { continue };
        is_any_known = true;
        if program.starts_with(folder) {
            return Some(true);
        }
    }
    is_any_known.then_some(false)
}

/// Whether a process lives, whosever it is.
pub fn is_alive(pid: u32) -> bool {
    // Zero and below would ask about whole groups.
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0).map(Pid::from_raw);
    pid.is_some_and(|pid| kill(pid, None) != Err(Errno::ESRCH))
}

/// Bytes that may still be written to the file system of `path`.
///
/// # Errors
/// Whatever the system says of the path.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = nix::sys::statvfs::statvfs(path)?;
    Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
}

/// Whether this process is the init of its system or container.
pub fn is_init() -> bool {
    std::process::id() == 1
}

/// Where the agent keeps its state unless told otherwise.
pub fn default_state_dir() -> PathBuf {
    match std::env::home_dir() {
        Some(home) if !Uid::effective().is_root() => home.join(".muster"),
        _ => "/var/lib/muster".into(),
    }
}

/// Makes an open fail on a symbolic link and not wait on a named pipe.
pub fn refuse_links_and_pipes(options: &mut OpenOptions) {
    use nix::fcntl::OFlag;
    options.custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
}
