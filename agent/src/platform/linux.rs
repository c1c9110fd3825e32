//! Linux: `/proc`, pidfd, the subreaper.

use std::ffi::CStr;
use std::fs;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::libc;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid};

use super::process::Signal;

/// The state of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessStat {
    pub pid: u32,
    pub parent: u32,
    pub group: u32,
    pub session: u32,
    /// In clock ticks since boot; together with the pid it identifies a process uniquely.
    pub start_ticks: u64,
    /// Ended but not reaped by its parent yet.
    pub is_zombie: bool,
}

impl ProcessStat {
    /// True if both are states of one process: its number was not reused in between.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.pid, self.start_ticks) == (other.pid, other.start_ticks)
    }

    /// Reads the state of a process; `None` if it does not exist.
    pub fn of(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name is in parentheses and may contain any characters, parentheses included.
        let fields: Vec<_> = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace().collect();
        Some(Self {
            pid,
            is_zombie: matches!(*fields.first()?, "Z" | "X"),
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            start_ticks: fields.get(19)?.parse().ok()?,
        })
    }
}

/// A file that is readable once something in one of the folders is made, written, replaced or removed, or gets
/// other permissions. Folders that do not exist are left out.
pub fn watch_folders(folders: &[PathBuf]) -> io::Result<File> {
    let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    let changes = AddWatchFlags::IN_ATTRIB
        | AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MOVE;
    for folder in folders {
        match watch.add_watch(folder, changes) {
            Ok(_) | Err(Errno::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(OwnedFd::from(watch).into())
}

/// All processes of the host that this process may see.
pub fn all_processes() -> Vec<ProcessStat> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(ProcessStat::of)
        .collect()
}

/// True if the process was started with `mark` (`NAME=value`) in its environment.
pub fn has_environment_entry(pid: u32, mark: &str) -> bool {
    environment(pid)
        .is_ok_and(|text| text.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes()))
}

fn environment(pid: u32) -> io::Result<Vec<u8>> {
    let path = format!("/proc/{pid}/environ");
    match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            read_as(&path, &fs::metadata(format!("/proc/{pid}"))?)
        }
        read => read,
    }
}

/// Reads a file with the rights of the owner of another one. In most containers root may switch to
/// any user but not read that user's processes.
fn read_as(path: &str, owned: &fs::Metadata) -> io::Result<Vec<u8>> {
    // This affects only this thread and only file access. The group is set before the user and
    // restored after it, because the change of user gives up the right to change the group.
    let group = nix::unistd::setfsgid(Gid::from_raw(owned.gid()));
    let user = nix::unistd::setfsuid(Uid::from_raw(owned.uid()));
    let read = fs::read(path);
    nix::unistd::setfsuid(user);
    nix::unistd::setfsgid(group);
    read
}

/// Orphaned descendants of this process become its children from now on.
pub fn become_subreaper() -> io::Result<()> {
    // SAFETY: PR_SET_CHILD_SUBREAPER takes one number and touches no memory.
    match unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A descriptor that becomes readable when the process has ended; it never refers to another
/// process.
pub fn open_process(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two numbers; a non-negative result is a descriptor that has no other
    // owner.
    unsafe {
        let descriptor = libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0);
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(descriptor as i32))
    }
}

/// Allocates space for the first bytes of a file.
pub fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    let bytes = libc::off_t::try_from(bytes).map_err(io::Error::other)?;
    // SAFETY: fallocate takes an open descriptor and numbers.
    match unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, bytes) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Signals the process of the descriptor, and never another one.
pub fn signal_open_process(process: &OwnedFd, signal: Signal) -> io::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: pidfd_send_signal takes an open descriptor and a number, and the further information
    // may be null.
    let sent = unsafe {
        let descriptor = process.as_raw_fd();
        libc::syscall(libc::SYS_pidfd_send_signal, descriptor, signal.native() as i32, none, 0)
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The program of this process, even if its file has been replaced since.
pub fn self_program() -> PathBuf {
    PathBuf::from("/proc/self/exe")
}

/// A larger pipe saves context switches between a noisy child and its reader; failure is harmless.
pub fn enlarge_pipe(pipe: &impl AsRawFd) {
    // SAFETY: F_SETPIPE_SZ takes a number and touches no memory.
    unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, 256 * 1024) };
}

/// A path of a socket in `directory` that fits into the 108 bytes of a socket address, however long
/// the directory's own path is. Valid while `directory` is open.
pub fn short_socket_path(directory: &File, _directory_path: &Path, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()))
}

/// All groups of a user, the primary group included.
pub(super) fn groups_of(user: &CStr, main: Gid) -> io::Result<Vec<Gid>> {
    Ok(nix::unistd::getgrouplist(user, main)?)
}

/// Sets the groups of this process.
pub(super) fn set_groups(groups: &[Gid]) -> io::Result<()> {
    Ok(nix::unistd::setgroups(groups)?)
}

/// The identifier of this installation of the system, if there is one.
pub fn machine_id_text() -> Option<String> {
    ["/etc/machine-id", "/var/lib/dbus/machine-id"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .map(|text| text.trim().to_owned())
        .find(|text| text.len() >= 32)
}

pub(super) fn boot_now_ms() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer refers to a timespec that outlives the call.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time) };
    time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
}

pub(super) fn boot_id() -> String {
    // It can't change during the life of this process.
    static BOOT_ID: OnceLock<String> = OnceLock::new();
    let read = || fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    BOOT_ID.get_or_init(|| read().trim().to_owned()).clone()
}

/// A new file in a folder that has no name, for its owner only; `None` if the file system has none.
pub fn unnamed_file(folder: BorrowedFd<'_>) -> Option<File> {
    let flags = OFlag::O_TMPFILE | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    let owner_only = Mode::S_IRUSR | Mode::S_IWUSR;
    nix::fcntl::openat(folder, ".", flags, owner_only).ok().map(File::from)
}

/// Gives a file without a name one in a folder. Fails if the name is taken.
///
/// # Errors
/// The system's error.
pub fn name_file(file: &File, folder: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    let at = nix::fcntl::AT_FDCWD;
    let flags = AtFlags::AT_SYMLINK_FOLLOW;
    nix::unistd::linkat(at, link.as_str(), folder, name, flags)?;
    Ok(())
}

/// Gives the space of the first bytes of a file back, which read as zeros then. Its size stays.
///
/// # Errors
/// The system's error; on file systems that have no holes, or none that can be made later.
pub fn release_start(file: &File, bytes: u64) -> io::Result<()> {
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    let bytes = libc::off_t::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: fallocate takes an open descriptor and numbers.
    match unsafe { libc::fallocate(file.as_raw_fd(), mode, 0, bytes) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
