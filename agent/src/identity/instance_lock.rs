//! One agent per state directory.

use std::time::Duration;

use crate::platform::{FileLock, LockError};
use crate::storage::layout::StateDir;

/// How long a start waits for the agent before it to let go.
const PATIENCE: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(100);

/// Holds the state directory for as long as it lives.
#[derive(Debug)]
pub struct InstanceLock(#[expect(dead_code, reason = "held, not read")] FileLock);

/// Why the directory was not taken.
#[derive(Debug, thiserror::Error)]
pub enum InstanceLockError {
    #[error(
        "another agent uses the state directory {path}: stop it, or give this one its own with --state-dir"
    )]
    Taken { path: String },
    #[error("lock the state directory {path}")]
    Io {
        path: String,
        #[source]
        source: LockError,
    },
}

impl InstanceLock {
    /// Takes the directory; waits a little, since at a restart the two may overlap.
    ///
    /// # Errors
    /// [`InstanceLockError::Taken`] if another agent keeps it.
    pub async fn take(state: &StateDir) -> Result<Self, InstanceLockError> {
        let path = || state.path().display().to_string();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            match FileLock::take(&state.lock()) {
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
