//! Ensures that only one agent uses a state directory.

use std::fs;
use std::time::Duration;

use crate::platform::{FileLock, LockError};
use crate::storage::layout::StateDir;

/// How long a start waits for the previous agent to free the lock.
const PATIENCE: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(100);

/// Holds the state directory until it is dropped.
#[derive(Debug)]
pub struct InstanceLock(#[expect(dead_code, reason = "held, not read")] FileLock);

/// Why the directory could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum InstanceLockError {
    #[error(
        "another agent uses the state directory {path}; stop it, or set another directory with --state-dir"
    )]
    Taken { path: String },
    #[error("failed to lock the state directory {path}")]
    Io {
        path: String,
        #[source]
        source: LockError,
    },
}

impl InstanceLock {
    /// Locks the directory. Waits a little, because two agents may overlap during a restart.
    ///
    /// # Errors
    /// [`InstanceLockError::Taken`] if another agent keeps the lock.
    pub async fn take(state: &StateDir) -> Result<Self, InstanceLockError> {
        let path = || state.path().display().to_string();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            // The last agent may have been killed while it was connected. The file is there for people only.
            let forget = || drop(fs::remove_file(state.status()));
            match FileLock::take_after(&state.lock(), forget) {
                Ok(lock) => return Ok(Self(lock)),
                Err(LockError::Held) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(RETRY).await;
                }
                Err(LockError::Held) => return Err(InstanceLockError::Taken { path: path() }),
                Err(source) => return Err(InstanceLockError::Io { path: path(), source }),
            }
        }
    }
}
