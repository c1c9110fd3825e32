//! Keeps files of output while a backup copies them.
//!
//! A row stops to reference a file before the file is removed. So a backup that first takes this lock and
//! then its snapshot finds every file that its rows reference. A worker that removes files holds the lock shared
//! meanwhile; a backup holds it alone.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// The ending of the locked file, which is beside the folder of output.
const LOCK_ENDING: &str = "lock";

/// How often a backup tries to get the lock, and the pause between. The lock itself has no time limit, and another
/// backup may hold it for hours.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(50);

/// Waits until no worker removes files of this folder, and keeps them until the result is dropped.
/// `None` if another backup, or a rotation of the master key, is running. Blocks.
///
/// # Errors
/// Of the file system.
pub fn hold_files(folder: &Path) -> io::Result<Option<File>> {
    let file = lock_file(folder)?;
    let mut locked = file.try_lock();
    for _ in 1..TRIES {
        if !matches!(locked, Err(TryLockError::WouldBlock)) {
            break;
        }
        thread::sleep(PAUSE);
        locked = file.try_lock();
    }
    granted(locked, file)
}

/// Permits to remove files, or to replace keys, while the result lives; `None` while a backup is made.
///
/// # Errors
/// Of the file system.
pub fn permit_changes(folder: &Path) -> io::Result<Option<File>> {
    let file = lock_file(folder)?;
    granted(file.try_lock_shared(), file)
}

pub(super) fn lock_file(folder: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600);
    options.open(folder.with_extension(LOCK_ENDING))
}

fn granted(locked: Result<(), TryLockError>, file: File) -> io::Result<Option<File>> {
    match locked {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_stay_while_a_backup_is_made_and_not_longer() {
        let data_dir = tempfile::tempdir().expect("a folder");
        let folder = data_dir.path().join("output");
        let one = permit_changes(&folder).expect("lock").expect("no backup runs");
        let two = permit_changes(&folder).expect("lock").expect("removals do not wait");
        drop((one, two));
        let held = hold_files(&folder).expect("lock").expect("it is free");
        assert!(permit_changes(&folder).expect("look").is_none());
        drop(held);
        assert!(permit_changes(&folder).expect("look").is_some());
    }
}
