//! Locks, FIFOs and room on disk.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::Mode;
use nix::sys::statvfs::statvfs;
use nix::unistd::AccessFlags;

/// An exclusive lock on a file, held until dropped or until the process ends, however it ends.
#[derive(Debug)]
pub struct FileLock(Flock<File>);

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("another process holds the lock")]
    Held,
    #[error("lock the file")]
    Io(#[from] io::Error),
}

impl FileLock {
    /// Takes the lock without waiting; makes the file if it is missing.
    ///
    /// # Errors
    /// [`LockError::Held`] if somebody else has it.
    pub fn take(path: &Path) -> Result<Self, LockError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self(lock)),
            Err((_, Errno::EWOULDBLOCK)) => Err(LockError::Held),
            Err((_, errno)) => Err(LockError::Io(errno.into())),
        }
    }

    /// True if somebody holds the lock. Makes nothing: where there is no file, nobody does.
    ///
    /// # Errors
    /// Whatever the system says of the path.
    pub fn is_held(path: &Path) -> io::Result<bool> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        // Shared, so that two who look at once don't take each other for a holder.
        match Flock::lock(file, FlockArg::LockSharedNonblock) {
            Ok(_) => Ok(false),
            Err((_, Errno::EWOULDBLOCK)) => Ok(true),
            Err((_, errno)) => Err(errno.into()),
        }
    }

    /// The locked file.
    pub fn file(&mut self) -> &mut File {
        &mut self.0
    }
}

/// True if this process may make files in the directory.
pub fn may_write(directory: &Path) -> bool {
    nix::unistd::access(directory, AccessFlags::W_OK | AccessFlags::X_OK).is_ok()
}

/// Bytes that may still be written to the file system of `path`.
///
/// # Errors
/// Whatever the system says of the path.
pub fn disk_free_bytes(path: &Path) -> io::Result<u64> {
    let stat = statvfs(path)?;
    Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
}

/// How full the file system of `path` is, 0 to 100, as `df` counts it.
///
/// # Errors
/// Whatever the system says of the path.
pub fn disk_used_percent(path: &Path) -> io::Result<f64> {
    let stat = statvfs(path)?;
    let used = stat.blocks().saturating_sub(stat.blocks_free()) as f64;
    let usable = used + stat.blocks_available() as f64;
    Ok(if usable > 0.0 { used / usable * 100.0 } else { 0.0 })
}

/// Makes a FIFO; one that is there already is kept.
///
/// # Errors
/// Whatever the system says of the path.
pub fn make_fifo(path: &Path) -> io::Result<()> {
    match nix::unistd::mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Opens a FIFO without ever waiting for the other end. `keep` opens both ends, so that the
/// reader never meets the end of the file; otherwise it fails when nobody reads.
///
/// # Errors
/// `ENXIO` if nobody reads and `keep` is false.
pub fn open_control(path: &Path, keep: bool) -> io::Result<File> {
    OpenOptions::new()
        .read(keep)
        .write(true)
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC)
        .open(path)
}
