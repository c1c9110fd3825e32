//! Processes on any Unix: sessions, groups, signals, reaping.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, kill, killpg, sigaction};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// The two signals that end a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    Term,
    Kill,
}

impl Signal {
    pub(super) fn native(self) -> nix::sys::signal::Signal {
        match self {
            Self::Term => nix::sys::signal::Signal::SIGTERM,
            Self::Kill => nix::sys::signal::Signal::SIGKILL,
        }
    }
}

/// The result of reaping children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaped {
    Exited {
        pid: u32,
        code: i32,
    },
    Signalled {
        pid: u32,
        signal: i32,
    },
    /// There are children, but none has ended.
    NoneEnded,
    /// There are no children.
    NoChildren,
}

/// Makes this process the leader of a new session without a terminal. No error if it already is
/// one.
///
/// # Errors
/// The system's error.
pub fn new_session() -> io::Result<()> {
    match nix::unistd::setsid() {
        Ok(_) | Err(Errno::EPERM) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Reaps one child that has ended, without waiting.
///
/// # Errors
/// The system's error.
pub fn reap_any() -> io::Result<Reaped> {
    loop {
        return match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => {
                Ok(Reaped::Exited { pid: pid.as_raw() as u32, code })
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) => {
                Ok(Reaped::Signalled { pid: pid.as_raw() as u32, signal: signal as i32 })
            }
            Ok(_) => Ok(Reaped::NoneEnded),
            Err(Errno::ECHILD) => Ok(Reaped::NoChildren),
            Err(Errno::EINTR) => continue,
            Err(errno) => Err(errno.into()),
        };
    }
}

/// Reaps this child if it has ended. No error if it is none.
pub fn reap(pid: u32) {
    let _ = waitpid(Pid::from_raw(pid as i32), Some(WaitPidFlag::WNOHANG));
}

/// Signals a process group. No error if it does not exist.
pub fn signal_group(group: u32, signal: Signal) {
    let _ = killpg(Pid::from_raw(group as i32), signal.native());
}

/// Signals a process. No error if it does not exist.
pub fn signal_process(pid: u32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid as i32), signal.native());
}

/// Makes this process ignore the signals that request its end or report a file size limit. Children
/// that are started later get the default action.
///
/// # Errors
/// The system's error.
pub fn survive_termination_signals() -> io::Result<()> {
    extern "C" fn nothing(_: nix::libc::c_int) {}
    // A handler instead of "ignore": an ignored signal stays ignored in programs that are started
    // later.
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    use nix::sys::signal::Signal as S;
    for signal in [S::SIGTERM, S::SIGINT, S::SIGHUP, S::SIGQUIT, S::SIGUSR1, S::SIGUSR2, S::SIGXFSZ]
    {
        // SAFETY: the handler does nothing, which is safe at any point of the program.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

/// Interrupts a wait when a child, or an adopted orphan, ends. Otherwise the orphans of a silent
/// execution would stay zombies until it ends.
///
/// # Errors
/// The system's error.
pub fn wake_on_child_exit() -> io::Result<()> {
    extern "C" fn nothing(_: nix::libc::c_int) {}
    let action =
        SigAction::new(SigHandler::Handler(nothing), SaFlags::SA_NOCLDSTOP, SigSet::empty());
    // SAFETY: the handler does nothing, which is safe at any point of the program.
    unsafe { sigaction(nix::sys::signal::Signal::SIGCHLD, &action) }?;
    Ok(())
}

/// Disables core dumps for this process and all its children: they would contain parameters.
///
/// # Errors
/// The system's error.
pub fn forbid_core_dumps() -> io::Result<()> {
    Ok(setrlimit(Resource::RLIMIT_CORE, 0, 0)?)
}

/// Makes reads return at once if there is nothing to read.
///
/// # Errors
/// The system's error for the descriptor.
pub fn set_nonblocking(descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(descriptor, FcntlArg::F_GETFL)?);
    fcntl(descriptor, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Waits until a descriptor is readable or closed, a signal arrives, or the time is up; `None`
/// waits without limit. Returns whether each descriptor is ready.
///
/// # Errors
/// The system's error for the descriptors.
pub fn wait_readable<const N: usize>(
    descriptors: [Option<BorrowedFd<'_>>; N],
    timeout: Option<Duration>,
) -> io::Result<[bool; N]> {
    let mut polled = Vec::with_capacity(N);
    let mut index = [None; N];
    for (slot, descriptor) in index.iter_mut().zip(descriptors) {
        if let Some(descriptor) = descriptor {
            *slot = Some(polled.len());
            polled.push(PollFd::new(descriptor, PollFlags::POLLIN));
        }
    }
    let timeout = match timeout {
        None => PollTimeout::NONE,
        // Rounded up: a wait that ends a moment early would spin.
        Some(time) => {
            let ms = time.as_micros().div_ceil(1000);
            PollTimeout::try_from(i32::try_from(ms).unwrap_or(i32::MAX)).unwrap_or(PollTimeout::MAX)
        }
    };
    match poll(&mut polled, timeout) {
        Ok(_) => {}
        Err(Errno::EINTR) => return Ok([false; N]),
        Err(errno) => return Err(errno.into()),
    }
    Ok(index.map(|slot| slot.is_some_and(|at| polled[at].any().unwrap_or(true))))
}

/// The host's name.
pub fn hostname() -> String {
    nix::unistd::gethostname()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_else(|_| "unknown".into())
}

/// True if this process has root rights.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Reads and discards the content of a control FIFO.
pub fn drain(control: &mut File) {
    use std::io::Read as _;
    let mut buffer = [0; 64];
    while matches!(control.read(&mut buffer), Ok(read) if read > 0) {}
}
