//! Ends and reaps the direct child and all its descendants.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crate::executions::orphans::{descendants, signal};
use crate::platform::{self, ProcessStat, Reaped, Signal};

/// Killed processes vanish at once unless the kernel holds them; the wait for them is bounded.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// How the direct child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildExit {
    Code(i32),
    Signal(i32),
}

/// Reaps all children that have ended, adopted ones included. Returns the end of the direct child
/// if it is among them. `other`: another one has ended, with code 0 or not.
///
/// # Errors
/// The system's error; also if the child vanished without an exit status.
pub fn reap_child(child: u32, other: &mut dyn FnMut(u32, bool)) -> io::Result<Option<ChildExit>> {
    loop {
        match platform::reap_any()? {
            Reaped::Exited { pid, code } if pid == child => return Ok(Some(ChildExit::Code(code))),
            Reaped::Signalled { pid, signal } if pid == child => {
                return Ok(Some(ChildExit::Signal(signal)));
            }
            Reaped::Exited { pid, code } => other(pid, code == 0),
            Reaped::Signalled { pid, .. } => other(pid, false),
            Reaped::NoneEnded => return Ok(None),
            Reaped::NoChildren => return Err(io::Error::other("the child has vanished")),
        }
    }
}

/// True if the process has ended and was not reaped yet.
pub fn has_ended(child: u32) -> bool {
    ProcessStat::of(child).is_some_and(|process| process.is_zombie)
}

/// Signals the child's process group and all other descendants of this process.
pub fn signal_all(child: u32, how: Signal) {
    // The group first, before one of its processes can fork again; then the processes that left the
    // group.
    platform::signal_group(child, how);
    for process in descendants(std::process::id()) {
        if process.group != child {
            signal(&process, how);
        }
    }
}

/// Kills and reaps all descendants. This process adopts all orphans, so nothing is left when it has
/// no children. False if it took longer than `PATIENCE`.
pub fn kill_descendants() -> bool {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match platform::reap_any() {
            Ok(Reaped::NoChildren) => return true,
            Ok(Reaped::Exited { .. } | Reaped::Signalled { .. }) => continue,
            Ok(Reaped::NoneEnded) => {}
            Err(_) => return false,
        }
        if Instant::now() > deadline {
            return false;
        }
        for process in descendants(std::process::id()) {
            signal(&process, Signal::Kill);
        }
        thread::sleep(POLL_INTERVAL);
    }
}
