//! Who may change the versions of one installation: one supervisor at a time.
//!
//! The lock goes with the process. It is not kept over `exec`, since whatever is started would hold
//! it too and jobs outlive their supervisor: the program that takes over takes it again.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

use super::durable::{self, FileError};

/// In the folder of the versions, so that it goes with them.
const LOCK_FILE: &str = ".lock";

/// Why versions are not to be changed by this process.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("look after the programs in {0}, as another supervisor does: stop one of the two")]
    Held(String),
    #[error("lock the folder of the versions")]
    File(#[from] FileError),
}

/// The right to change versions, until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes it, without waiting.
    ///
    /// # Errors
    /// [`LockError::Held`] if somebody else has it.
    pub fn take(program: &Path) -> Result<Self, LockError> {
        let path = program.join("versions").join(LOCK_FILE);
        let file = open(&path).map_err(FileError::of("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(LockError::Held(program.display().to_string())),
            Err(TryLockError::Error(error)) => Err(FileError::of("lock", &path)(error).into()),
        }
    }
}

/// On a disk that is full or read-only the file of an earlier start does.
fn open(path: &Path) -> io::Result<File> {
    match durable::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    // Whoever could open it could lock it, and keep the host from every update.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    crate::platform::refuse_links_and_pipes(&mut options);
    options.open(path)
}
