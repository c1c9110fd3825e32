//! File locks, FIFOs and disk space.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::sys::statvfs::statvfs;
use nix::unistd::AccessFlags;

/// An exclusive lock on a file (`flock`), held until it is dropped or the process ends in any way.
#[derive(Debug)]
pub struct FileLock(File);

/// Why a lock could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("another process holds the lock")]
    Held,
    #[error("failed to lock the file")]
    Io(#[from] io::Error),
}

impl From<TryLockError> for LockError {
    fn from(error: TryLockError) -> Self {
        match error {
            TryLockError::WouldBlock => Self::Held,
            TryLockError::Error(error) => Self::Io(error),
        }
    }
}

impl FileLock {
    /// Takes the lock without waiting; creates the file if it is missing.
    ///
    /// # Errors
    /// [`LockError::Held`] if another process holds it.
    pub fn take(path: &Path) -> Result<Self, LockError> {
        Self::take_after(path, || {})
    }

    /// [`FileLock::take`] that first calls `prepare`, while no process holds the lock.
    ///
    /// # Errors
    /// [`LockError::Held`] if another process holds it.
    pub fn take_after(path: &Path, prepare: impl FnOnce()) -> Result<Self, LockError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        // No process can take the lock beside the shared one, and a check takes this one for free.
        file.try_lock_shared()?;
        prepare();
        file.try_lock()?;
        Ok(Self(file))
    }

    /// True if a process holds the lock. Creates nothing: without a file the lock is not held.
    ///
    /// # Errors
    /// The system's error for the path.
    pub fn is_held(path: &Path) -> io::Result<bool> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        // A shared lock, so that two processes that check at once do not see each other as a
        // holder.
        match file.try_lock_shared() {
            Ok(()) => file.unlock().map(|()| false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// The locked file.
    pub fn file(&mut self) -> &mut File {
        &mut self.0
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Not left to the close: a child that another thread is just spawning has a copy of the
        // descriptor until it executes its program, and would keep the lock.
        let _ = self.0.unlock();
    }
}

/// True if this process may create files in the directory.
pub fn may_write(directory: &Path) -> bool {
    nix::unistd::access(directory, AccessFlags::W_OK | AccessFlags::X_OK).is_ok()
}

/// Bytes that may still be written to the file system of `path`.
///
/// # Errors
/// The system's error for the path.
pub fn disk_free_bytes(path: &Path) -> io::Result<u64> {
    let stat = statvfs(path)?;
    Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
}

/// How full the file system of `path` is, 0 to 100, as `df` counts it.
///
/// # Errors
/// The system's error for the path.
pub fn disk_used_percent(path: &Path) -> io::Result<f64> {
    let stat = statvfs(path)?;
    let used = stat.blocks().saturating_sub(stat.blocks_free()) as f64;
    let usable = used + stat.blocks_available() as f64;
    Ok(if usable > 0.0 { used / usable * 100.0 } else { 0.0 })
}

/// The size of the file system that holds a path.
///
/// # Errors
/// The system's error for the path.
pub fn disk_size_bytes(path: &Path) -> io::Result<u64> {
    let stat = statvfs(path)?;
    Ok(stat.blocks().saturating_mul(stat.fragment_size()))
}

/// Creates a FIFO; an existing one is kept.
///
/// # Errors
/// The system's error for the path.
pub fn make_fifo(path: &Path) -> io::Result<()> {
    match nix::unistd::mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Opens a FIFO without waiting for the other end. `keep` opens both ends, so that the reader never
/// sees the end of the file; otherwise opening fails if there is no reader.
///
/// # Errors
/// `ENXIO` if there is no reader and `keep` is false.
pub fn open_control(path: &Path, keep: bool) -> io::Result<File> {
    OpenOptions::new()
        .read(keep)
        .write(true)
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC)
        .open(path)
}

/// The user of this process.
pub fn own_user() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Opens a plain file of a user, or of this process's own user, to read it: never through a link, never a
/// file with a second link, which the user might not be able to read, and without waiting for a pipe.
///
/// # Errors
/// The system's error; `PermissionDenied` for anything else than such a file.
pub fn open_plain_file(path: &Path, user: Option<u32>) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK);
    let file = options.open(path)?;
    let found = file.metadata()?;
    let user = user.unwrap_or_else(own_user);
    if !found.is_file() || found.uid() != user || found.nlink() != 1 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(file)
}
