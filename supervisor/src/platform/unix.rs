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

use super::forwarded_signal::{ForwardedSignal, whole_milliseconds};
use crate::policy::ProcessExit;

const REQUESTS: [(i32, ForwardedSignal); 3] = [
    (SIGTERM, ForwardedSignal::Terminate),
    (SIGINT, ForwardedSignal::Interrupt),
    (SIGHUP, ForwardedSignal::HangUp),
];

/// Receives this process's signals; starts, waits for and kills the one child process.
#[derive(Debug)]
pub struct ProcessController {
    wakeups: UnixStream,
    requested: [Arc<AtomicBool>; REQUESTS.len()],
    agent: Option<Pid>,
}

impl ProcessController {
    /// Registers handlers for SIGTERM, SIGINT, SIGHUP and SIGCHLD.
    ///
    /// # Errors
    /// The system's error if it refused a handler or a descriptor.
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

    /// Waits until a signal arrives or `timeout` has passed. May return early.
    ///
    /// # Errors
    /// The system's error; waiting is impossible then.
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

    /// The next signal that was received and not taken yet.
    pub fn take_request(&self) -> Option<ForwardedSignal> {
        REQUESTS
            .iter()
            .zip(&self.requested)
            .find(|(_, flag)| flag.swap(false, Ordering::SeqCst))
            .map(|((_, request), _)| *request)
    }

    /// Starts the agent. Only one child at a time. It gets its own process group, so that a
    /// keyboard interrupt reaches it only once, through the supervisor.
    ///
    /// # Errors
    /// The system's error; no process was started.
    pub fn start_agent(&mut self, command: &mut Command) -> io::Result<u32> {
        command.process_group(0);
        #[cfg(target_os = "linux")]
        super::linux::end_with_parent(command);
        let id = command.spawn()?.id();
        // Zero and negative numbers address groups.
        self.agent = i32::try_from(id).ok().filter(|id| *id > 0).map(Pid::from_raw);
        Ok(id)
    }

    /// Reaps every child that has ended, adopted orphans included. Returns the agent's exit if it
    /// was among them.
    pub fn reap(&mut self) -> Option<ProcessExit> {
        let mut ended = None;
        loop {
            let (pid, end) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, ProcessExit::Exited(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    (pid, ProcessExit::Signalled(signal as i32))
                }
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return ended,
                // `nix` can't name a real-time signal, but the child is reaped. If the agent's
                // process is gone, it was the agent.
                Err(Errno::EINVAL) => match self.vanished_agent() {
                    Some(pid) => (pid, ProcessExit::Signalled(0)),
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

    /// Forwards a signal to the agent only; its executions are not the supervisor's to stop.
    pub fn forward(&self, request: ForwardedSignal) {
        self.signal_agent(match request {
            ForwardedSignal::Terminate => Signal::SIGTERM,
            ForwardedSignal::Interrupt => Signal::SIGINT,
            ForwardedSignal::HangUp => Signal::SIGHUP,
        });
    }

    /// Kills the agent.
    pub fn kill_agent(&self) {
        self.signal_agent(Signal::SIGKILL);
    }

    fn signal_agent(&self, signal: Signal) {
        // The process is not reaped yet, so its number can't belong to another process. If it has
        // ended already, the signal has no effect.
        if let Some(pid) = self.agent {
            let _ = kill(pid, signal);
        }
    }

    fn vanished_agent(&self) -> Option<Pid> {
        self.agent.filter(|pid| kill(*pid, None) == Err(Errno::ESRCH))
    }
}

/// Replaces this process by another program. Returns only if that fails.
pub fn exec_program(program: &Path, arguments: impl Iterator<Item = OsString>) -> io::Error {
    Command::new(program).args(arguments).exec()
}

/// True if a process runs a program from this folder; `None` if unknown.
pub fn is_folder_in_use(folder: &Path) -> Option<bool> {
    // Without /proc nothing is known, and nothing must be removed.
    let mut is_any_known = false;
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        // A process of another user can't be inspected, and does not run our programs.
        let Ok(program) = std::fs::read_link(entry.path().join("exe")) else { continue };
        is_any_known = true;
        if program.starts_with(folder) {
            return Some(true);
        }
    }
    is_any_known.then_some(false)
}

/// True if a process exists, of any user.
pub fn is_alive(pid: u32) -> bool {
    // Zero and negative numbers address groups.
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0).map(Pid::from_raw);
    pid.is_some_and(|pid| kill(pid, None) != Err(Errno::ESRCH))
}

/// Free bytes on the file system of `path`.
///
/// # Errors
/// The system's error.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = nix::sys::statvfs::statvfs(path)?;
    Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
}

/// True if this process is the init of its system or container.
pub fn is_init() -> bool {
    std::process::id() == 1
}

/// The default of the agent's state directory.
pub fn default_state_dir() -> PathBuf {
    match std::env::home_dir() {
        Some(home) if !Uid::effective().is_root() => home.join(".muster"),
        _ => "/var/lib/muster".into(),
    }
}

/// Makes opening fail on a symbolic link and not block on a named pipe.
pub fn refuse_links_and_pipes(options: &mut OpenOptions) {
    use nix::fcntl::OFlag;
    options.custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
}
