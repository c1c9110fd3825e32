//! Linux only: an agent that ends with its supervisor.

use std::io;
use std::os::unix::process::{CommandExt as _, parent_id};
use std::process::Command;

use nix::sys::prctl;
use nix::sys::signal::Signal;

/// Has the kernel send SIGTERM to the agent when the supervisor dies, however it dies. Without it a
/// new supervisor's agent would fight the old one for the state directory. Jobs go on: they are in
/// sessions of their own and did not ask for this signal.
pub fn end_with_parent(command: &mut Command) {
    let supervisor = std::process::id();
    let prepare = move || {
        prctl::set_pdeathsig(Signal::SIGTERM)?;
        // Orphaned before the kernel was told: the signal would never come.
        if parent_id() != supervisor {
            return Err(io::Error::from_raw_os_error(nix::errno::Errno::ESRCH as i32));
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes two system calls and neither allocates nor
    // takes a lock. The fork this forces is cheap: the supervisor is small.
    unsafe {
        command.pre_exec(prepare);
    }
}
