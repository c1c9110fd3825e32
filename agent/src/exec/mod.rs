//! Starting work and keeping it in view. The work itself is a shim's, in a process of its own.

mod environment;
mod leftovers;
pub mod shim;
mod wake;
mod watch;

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub use leftovers::end_leftovers;
pub use wake::{Bell, WakeSocket};
pub use watch::{Watch, watch_child, watch_holder};

use crate::fault;
use crate::layout::JobDir;
use crate::ledger::record::{CancelRecord, HolderRecord};
use crate::platform;
use crate::storage::{self, StorageError};

/// Starts the shim of a job. The agent's own environment, with its key, stays behind.
///
/// # Errors
/// Whatever the system says.
pub fn start_shim(program: &Path, job: &JobDir) -> io::Result<Child> {
    // Nothing here may need a fork: from a large process that is many times slower than a spawn.
    Command::new(program)
        // The program is named by a link of the system; a list of processes should say which it is.
        .arg0("muster-agent")
        .arg("shim")
        .arg(job.path())
        .env_clear()
        .envs(environment::allowed())
        .envs(fault::passed_on())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        // It keeps a log of its own, in the job's folder.
        .stderr(Stdio::null())
        .spawn()
}

/// The program that shims are started from: this one.
pub fn shim_program() -> PathBuf {
    platform::self_program()
}

/// Asks a job's shim to end its run. Asking again does no harm.
///
/// # Errors
/// Whatever the disk says; the request then may not survive a crash.
pub fn ask_to_cancel(job: &JobDir, grace_ms: u64) -> Result<(), StorageError> {
    if !job.cancel().exists() {
        // The file first: a shim that is not listening yet looks for it before it starts anything.
        storage::replace_synced(&job.cancel(), &storage::seal(&CancelRecord { grace_ms }))?;
    }
    match platform::open_control(&job.control(), false) {
        Ok(mut control) => {
            let _ = control.write(&[1]);
        }
        Err(error) => tracing::debug!(path = %job.path().display(), %error, "no shim to tell"),
    }
    Ok(())
}

/// Who holds a job's lock, as the holder wrote it; `None` for a moment after it was taken.
pub fn holder(job: &JobDir) -> Option<HolderRecord> {
    let mut bytes = Vec::new();
    fs::File::open(job.lock()).ok()?.take(4096).read_to_end(&mut bytes).ok()?;
    storage::unseal(&bytes, &job.lock()).ok()
}
