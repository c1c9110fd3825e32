//! Everything that differs between operating systems.
//!
//! The only folder with `cfg(target_os)`. It knows neither commands nor frames.

#[cfg(not(unix))]
compile_error!("the agent needs a Unix system: Windows hosts are not supported yet");

mod account;
mod cgroup;
mod clock;
mod files;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other_unix;
mod process;

#[cfg(target_os = "linux")]
use linux as native;
#[cfg(not(target_os = "linux"))]
use other_unix as native;

pub use account::{Account, user_name};
pub use cgroup::{ControlGroup, GroupLimits};
pub use clock::{BootInstant, boot_id, boot_now_ms};
pub use files::{
    FileLock, LockError, disk_free_bytes, disk_size_bytes, disk_used_percent, make_fifo, may_write,
    open_control, open_plain_file, own_user,
};
pub use native::{
    ProcessStat, all_processes, allocate, become_subreaper, enlarge_pipe, has_environment_entry,
    machine_id_text, name_file, open_process, release_start, self_program, short_socket_path,
    signal_open_process, unnamed_file, watch_folders,
};
pub use process::{
    Reaped, Signal, drain, forbid_core_dumps, hostname, is_root, new_session, reap, reap_any,
    set_nonblocking, signal_group, signal_process, survive_termination_signals, wait_readable,
    wake_on_child_exit,
};
