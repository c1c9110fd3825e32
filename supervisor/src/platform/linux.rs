//! Linux only: the agent ends when its supervisor dies.

use std::io;
use std::os::unix::process::{CommandExt as _, parent_id};
use std::process::Command;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};

/// Makes the kernel send SIGTERM to this process when the thread that started it ends. Files of scripts are
/// then made as by a service, because a server closes its own to other users. Returns false if the parent has
/// ended already.
///
/// # Errors
/// The system's error.
pub fn end_with_process(parent: u32) -> io::Result<bool> {
    prctl::set_pdeathsig(Signal::SIGTERM)?;
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    Ok(parent_id() == parent)
}

/// Makes the kernel send SIGTERM to the agent when the supervisor dies for any reason. Otherwise
/// the agent of a new supervisor would compete with the old one for the state directory. Executions
/// continue: they run in their own sessions, without this signal.
pub fn end_with_parent(command: &mut Command) {
    let supervisor = std::process::id();
    let prepare = move || {
        prctl::set_pdeathsig(Signal::SIGTERM)?;
        // The supervisor died before the call, so the signal would never come.
        if parent_id() != supervisor {
            return Err(io::Error::from_raw_os_error(nix::errno::Errno::ESRCH as i32));
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes two system calls; it neither allocates nor
    // locks. The fork that this forces is cheap, because the supervisor is small.
    unsafe {
        command.pre_exec(prepare);
    }
}
