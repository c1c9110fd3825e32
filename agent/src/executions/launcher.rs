//! Starting work and keeping it in view. The work itself is a shim's, in a process of its own.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::environment;
use crate::executions::ledger::record::{CancelRecord, HolderRecord};
use crate::fault;
use crate::platform;
use crate::storage::layout::ExecutionDir;
use crate::storage::{self, StorageError};

/// Starts the shim of an execution. The agent's own environment, with its key, stays behind.
///
/// # Errors
/// Whatever the system says.
pub fn start_shim(program: &Path, execution: &ExecutionDir) -> io::Result<Child> {
    // Nothing here may need a fork: from a large process that is many times slower than a spawn.
    Command::new(program)
        // The program is named by a link of the system; a list of processes should say which it is.
        .arg0("muster-agent")
        .arg("shim")
        .arg(execution.path())
        .env_clear()
        .envs(environment::allowed())
        .envs(fault::shim_variable())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        // It keeps a log of its own, in the execution's folder.
        .stderr(Stdio::null())
        .spawn()
}

/// The program that shims are started from: this one.
pub fn shim_program() -> PathBuf {
    platform::self_program()
}

/// Asks an execution's shim to end its run. Asking again does no harm.
///
/// # Errors
/// Whatever the disk says; the request then may not survive a crash.
pub fn ask_to_cancel(execution: &ExecutionDir, grace_ms: u64) -> Result<(), StorageError> {
    if !execution.cancel().exists() {
        // The file first: a shim that is not listening yet looks for it before it starts anything.
        storage::replace_synced(&execution.cancel(), &storage::seal(&CancelRecord { grace_ms }))?;
    }
    match platform::open_control(&execution.control(), false) {
        Ok(mut control) => {
            let _ = control.write(&[1]);
        }
        Err(error) => {
            tracing::debug!(path = %execution.path().display(), %error, "no shim to tell")
        }
    }
    Ok(())
}

/// Who holds an execution's lock, as the holder wrote it; `None` for a moment after it was taken.
pub fn holder(execution: &ExecutionDir) -> Option<HolderRecord> {
    let mut bytes = Vec::new();
    fs::File::open(execution.lock()).ok()?.take(4096).read_to_end(&mut bytes).ok()?;
    storage::unseal(&bytes, &execution.lock()).ok()
}
