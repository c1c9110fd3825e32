//! Unixes other than Linux. Compiles, but has never been tested.
//!
//! Without `/proc`, pidfd and the subreaper, a descendant that leaves its process group escapes.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::unistd::Gid;

/// The state of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessStat {
    pub pid: u32,
    pub parent: u32,
    pub group: u32,
    pub session: u32,
    pub start_ticks: u64,
    pub is_zombie: bool,
}

impl ProcessStat {
    pub fn of(_pid: u32) -> Option<Self> {
        None
    }

    pub fn is_same(&self, other: &Self) -> bool {
        (self.pid, self.start_ticks) == (other.pid, other.start_ticks)
    }
}

pub fn watch_folders(_folders: &[PathBuf]) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

pub fn all_processes() -> Vec<ProcessStat> {
    Vec::new()
}

pub fn has_environment_entry(_pid: u32, _mark: &str) -> bool {
    false
}

pub fn become_subreaper() -> io::Result<()> {
    Ok(())
}

pub fn open_process(_pid: u32) -> io::Result<OwnedFd> {
    Err(io::ErrorKind::Unsupported.into())
}

pub fn allocate(_file: &File, _bytes: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub fn signal_open_process(_process: &OwnedFd, _signal: super::process::Signal) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub fn self_program() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from("muster-agent"))
}

pub fn enlarge_pipe(_pipe: &impl AsRawFd) {}

pub fn short_socket_path(_directory: &File, directory_path: &Path, name: &str) -> PathBuf {
    directory_path.join(name)
}

pub(super) fn groups_of(_user: &CStr, _main: Gid) -> io::Result<Vec<Gid>> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn set_groups(_groups: &[Gid]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub fn machine_id_text() -> Option<String> {
    None
}

pub(super) fn boot_now_ms() -> u64 {
    sysinfo::System::uptime().unwrap_or_default() * 1000
}

pub(super) fn boot_id() -> String {
    sysinfo::System::boot_time().map(|at| at.to_string()).unwrap_or_default()
}

pub fn unnamed_file(_folder: BorrowedFd<'_>) -> Option<File> {
    None
}

pub fn name_file(_file: &File, _folder: BorrowedFd<'_>, _name: &str) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Gives the space of the first bytes of a file back.
///
/// # Errors
/// Always: this system offers no call for it that all its file systems have.
pub fn release_start(_file: &File, _bytes: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
