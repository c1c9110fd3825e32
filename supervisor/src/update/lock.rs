//! A lock on the versions of an installation: only one supervisor at a time may change them.
//!
//! The lock ends with the process. It is not inherited over `exec`: started programs would hold it
//! too, and executions outlive their supervisor. The program that takes over acquires it again.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

use super::durable_file::{self, FileError};

/// In the folder of the versions, so that it moves with them.
const LOCK_FILE: &str = ".lock";

/// Why this process must not change versions.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("another supervisor manages the programs in {0}; stop one of the two")]
    Held(String),
    #[error("failed to lock the folder of the versions")]
    File(#[from] FileError),
}

/// The lock, held until it is dropped.
#[derive(Debug)]
pub struct InstallationLock {
    _file: File,
}

impl InstallationLock {
    /// Acquires the lock without waiting.
    ///
    /// # Errors
    /// [`LockError::Held`] if another supervisor holds it.
    pub fn acquire(program: &Path) -> Result<Self, LockError> {
        let path = program.join("versions").join(LOCK_FILE);
        let file = open(&path).map_err(FileError::of("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(LockError::Held(program.display().to_string())),
            Err(TryLockError::Error(error)) => Err(FileError::of("lock", &path)(error).into()),
        }
    }
}

/// On a full or read-only disk the file of an earlier start is used.
fn open(path: &Path) -> io::Result<File> {
    match durable_file::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    // A user who can open the file could lock it and block every update.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    crate::platform::refuse_links_and_pipes(&mut options);
    options.open(path)
}
