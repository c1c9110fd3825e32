//! Starts and cancels shims. A shim runs the script in a process of its own.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::environment;
use crate::executions::ledger::record::{CancelRecord, CancelledBy, HolderRecord};
use crate::fault;
use crate::platform::{self, ProcessStat};
use crate::storage::layout::ExecutionDir;
use crate::storage::{self, StorageError};

/// Starts the shim of an execution. The shim does not inherit the agent's environment, which
/// contains the key.
///
/// # Errors
/// The system's error.
pub fn start_shim(program: &Path, execution: &ExecutionDir) -> io::Result<Child> {
    // Held until the child is noted: what this process has not started itself is what a shim has left.
    let mut own = own_shims();
    // Nothing here may force a fork: from a large process a fork is many times slower than a spawn.
    let child = Command::new(program)
        // The program is started through a link of the system, so the process list would not show
        // its name.
        .arg0("muster-agent")
        .arg("shim")
        .arg(execution.path())
        .env_clear()
        .envs(environment::allowed())
        .envs(environment::package_settings())
        .envs(fault::shim_variable())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        // The shim writes its own log in the execution's folder.
        .stderr(Stdio::null())
        .spawn()?;
    note(&mut own, &child);
    Ok(child)
}

/// Starts the program that collects facts, which writes them to its standard output. It ends when its
/// standard input is closed: also if this process is killed.
///
/// # Errors
/// The system's error.
pub fn start_fact_collector(program: &Path, state: &Path) -> io::Result<Child> {
    let mut own = own_shims();
    let child = Command::new(program)
        .arg0("muster-agent")
        .args(["facts", "--json", "--watch-input", "--state-dir"])
        .arg(state)
        .env_clear()
        .envs(environment::allowed())
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    note(&mut own, &child);
    Ok(child)
}

/// Notes a child that this process has started, and forgets those that are gone.
fn note(own: &mut Vec<ProcessStat>, child: &Child) {
    own.retain(|known| ProcessStat::of(known.pid).is_some_and(|now| now.is_same(known)));
    own.extend(ProcessStat::of(child.id()));
}

/// The shims and collectors of facts that this process has started. No other process starts while the guard is held.
pub fn own_shims() -> MutexGuard<'static, Vec<ProcessStat>> {
    static OWN: Mutex<Vec<ProcessStat>> = Mutex::new(Vec::new());
    OWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The program that is started as a shim: the running one.
pub fn shim_program() -> PathBuf {
    platform::self_program()
}

/// Requests that a shim ends its run. Repeated requests do no harm.
///
/// # Errors
/// The system's error; the request may then not survive a crash.
pub fn ask_to_cancel(
    execution: &ExecutionDir,
    grace_ms: u64,
    by: CancelledBy,
) -> Result<(), StorageError> {
    if !execution.cancel().exists() {
        // The file is written first: a shim that does not listen yet checks it before it starts
        // anything.
        let record = CancelRecord { grace_ms, by };
        storage::replace_synced(&execution.cancel(), &storage::seal(&record))?;
    }
    match platform::open_control(&execution.control(), false) {
        Ok(mut control) => {
            let _ = control.write(&[1]);
        }
        Err(error) => {
            tracing::debug!(path = %execution.path().display(), %error, "no shim is running to be notified")
        }
    }
    Ok(())
}

/// Who cancelled an execution; the server by default.
pub fn cancelled_by(execution: &ExecutionDir) -> CancelledBy {
    let asked: Option<CancelRecord> = storage::read_sealed(&execution.cancel()).ok().flatten();
    asked.map_or(CancelledBy::default(), |record| record.by)
}

/// The process that holds an execution's lock, as recorded by the holder; `None` for a moment after
/// the lock was taken.
pub fn holder(execution: &ExecutionDir) -> Option<HolderRecord> {
    let mut bytes = Vec::new();
    fs::File::open(execution.lock()).ok()?.take(4096).read_to_end(&mut bytes).ok()?;
    storage::unseal(&bytes, &execution.lock()).ok()
}
