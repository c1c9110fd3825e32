//! Differences between operating systems: signals, child processes, files.
//!
//! Does not know what exit codes mean or what happens next. The tests run on Linux. macOS shares
//! everything except `linux.rs` and is unverified. `portable.rs` (Windows) uses only the standard
//! library and is unverified too.

mod forwarded_signal;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(unix))]
mod portable;
#[cfg(unix)]
mod unix;

pub use forwarded_signal::ForwardedSignal;
#[cfg(target_os = "linux")]
pub use linux::end_with_process;
#[cfg(not(unix))]
pub use portable::{
    ProcessController, default_state_dir, exec_program, free_bytes, is_alive, is_folder_in_use,
    is_init, refuse_links_and_pipes,
};
#[cfg(unix)]
pub use unix::{
    ProcessController, default_state_dir, exec_program, free_bytes, is_alive, is_folder_in_use,
    is_init, refuse_links_and_pipes,
};

/// Only Linux ends a process with its parent.
///
/// # Errors
/// None on this platform.
#[cfg(not(target_os = "linux"))]
pub fn end_with_process(_parent: u32) -> std::io::Result<bool> {
    Ok(true)
}
