//! An execution's folder: what is written in which order, and what its traces say.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use uuid::Uuid;

use super::record::{CommandRecord, EXIT_BYTES, ParameterRecord, Settlement};
use super::recovery::OnDiskState;
use super::{checkpoints, window};
use crate::platform::{FileLock, LockError, make_fifo};
use crate::storage::layout::{ExecutionDir, StateDir};
use crate::storage::{self, StorageError, UnsyncedFile};

/// Writes all that a shim needs, and the room for its last word; [`sync_command`] makes it durable.
pub fn write_command(
    execution: &ExecutionDir,
    record: &CommandRecord,
    parameters: &ParameterRecord,
) -> Result<Vec<UnsyncedFile>, StorageError> {
    make_folder(execution)?;
    // Only what was made here may be removed again: a folder that was there is another's.
    write_files(execution, record, parameters).inspect_err(|_| remove_execution(execution))
}

fn write_files(
    execution: &ExecutionDir,
    record: &CommandRecord,
    parameters: &ParameterRecord,
) -> Result<Vec<UnsyncedFile>, StorageError> {
    let mut written = Vec::with_capacity(3);
    if record.launch.is_some() {
        make_fifo(&execution.control())
            .map_err(StorageError::io("create", &execution.control()))?;
        // Taken from the free space at once, so that it needs no sync of its own.
        storage::reserve(&execution.exit(), EXIT_BYTES)?;
    }
    if !parameters.is_empty() {
        let bytes = storage::seal(parameters);
        written.push(UnsyncedFile::create(execution.parameters(), &bytes)?);
    }
    // Last to be written and to be synced, since this one is the acceptance.
    written.push(UnsyncedFile::create(execution.command(), &storage::seal(record))?);
    Ok(written)
}

/// Makes a written command durable. The folder's own name is once the folder above is synced.
pub fn sync_command(
    execution: &ExecutionDir,
    written: Vec<UnsyncedFile>,
) -> Result<(), StorageError> {
    for file in written {
        file.sync()?;
    }
    storage::sync_directory(execution.path())
}

/// Writes the agent's last word on a command.
pub fn write_settlement(
    execution: &ExecutionDir,
    settlement: &Settlement,
) -> Result<(), StorageError> {
    match fs::DirBuilder::new().mode(0o700).create(execution.path()) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(StorageError::io("create", execution.path())(error)),
    }
    let bytes = storage::seal(settlement);
    storage::replace_synced(&execution.settled(), &bytes).or_else(|error| {
        // A full disk still has the room that was set aside when the command was accepted.
        write_in_place(&execution.exit(), &bytes).map_err(|_| error)
    })
}

/// Writes over the room for an exit record. No shim may have it open.
fn write_in_place(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).open(path)?;
    if bytes.len() > EXIT_BYTES {
        return Err(std::io::ErrorKind::FileTooLarge.into());
    }
    file.write_all(bytes)?;
    file.sync_data()
}

/// The last word on a command; the agent's own comes before the shim's.
///
/// # Errors
/// If there may be one that can't be read. A damaged one, and the room for one that was never
/// written, is as good as none.
pub fn read_settlement(execution: &ExecutionDir) -> Result<Option<Settlement>, StorageError> {
    match storage::read_whole(&execution.settled())? {
        Some(settlement) => Ok(Some(settlement)),
        None => storage::read_whole(&execution.exit()),
    }
}

/// Moves the last word out of an execution's folder and drops what is large or secret. True if the
/// answer is kept.
pub fn archive_settlement(execution: &ExecutionDir, kept: &Path) -> bool {
    let is_moved = [execution.settled(), execution.exit()].iter().any(|path| {
        storage::read_sealed::<Settlement>(path).is_ok_and(|read| read.is_some())
            && fs::rename(path, kept).is_ok()
    });
    if is_moved {
        let _ = fs::remove_file(execution.output());
        let _ = fs::remove_file(checkpoints::path_of(&execution.output()));
        let _ = fs::remove_file(execution.parameters());
    }
    is_moved
}

/// Looks at all traces of a command.
///
/// The order is what makes the picture true while a shim begins or ends: a mark that is seen was
/// made under a lock that is looked at later, and a lock that is free again was let go after the
/// last word was written, which is looked at last.
///
/// # Errors
/// If there may be a trace that can't be seen. A judgement without it could end a living run, or
/// throw a promise away.
pub fn read_on_disk_state(
    execution: &ExecutionDir,
) -> Result<(OnDiskState, Option<CommandRecord>), StorageError> {
    let command: Option<CommandRecord> = storage::read_whole(&execution.command())?;
    let has_started = storage::exists(&execution.started())?;
    let has_cancel = storage::exists(&execution.cancel())?;
    let is_locked = is_locked(execution)?;
    let on_disk = OnDiskState {
        has_command: command.is_some(),
        is_locked,
        has_started,
        has_cancel,
        window: window(command.as_ref().and_then(|command| command.start_by.as_ref())),
        has_settlement: read_settlement(execution)?.is_some(),
    };
    Ok((on_disk, command))
}

/// Removes an execution's folder; what can't be removed is found again at the next start.
pub fn remove_execution(execution: &ExecutionDir) {
    if let Err(error) = fs::remove_dir_all(execution.path())
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %execution.path().display(), %error, "execution folder not removed");
    }
}

/// Moves the ledger away and drops the oldest of those moved earlier.
pub fn set_aside(state: &StateDir, kept: usize) -> Result<(), StorageError> {
    let aside = state.set_aside(Uuid::new_v4());
    storage::ensure_private_directory(&aside)?;
    // The executions go first: after a crash in between there is a ledger without executions, which runs
    // nothing, and never an execution without its ledger.
    for path in [state.executions(), state.settled(), state.ledger()] {
        if path.exists() {
            let target = aside.join(path.file_name().unwrap_or_default());
            fs::rename(&path, &target).map_err(StorageError::io("set aside", &path))?;
        }
    }
    storage::sync_directory(&aside)?;
    storage::sync_directory(state.path())?;
    delete_parameters(state);
    remove_oldest(state.path(), kept);
    state.ensure_ledger()
}

/// Removes the values of parameters from ledgers that were set aside: nothing runs from there, and
/// they may be secret.
pub fn delete_parameters(state: &StateDir) {
    for (_, aside) in set_aside_folders(state.path()) {
        let Ok(executions) = fs::read_dir(aside.join("executions")) else { continue };
        for execution in executions.flatten() {
            let _ = fs::remove_file(ExecutionDir::at(execution.path()).parameters());
        }
    }
}

pub fn set_aside_folders(path: &Path) -> Vec<(SystemTime, PathBuf)> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("set-aside-"))
        .map(|entry| {
            let made = entry.metadata().and_then(|data| data.modified());
            (made.unwrap_or(SystemTime::UNIX_EPOCH), entry.path())
        })
        .collect()
}

fn remove_oldest(path: &Path, kept: usize) {
    let mut aside = set_aside_folders(path);
    aside.sort();
    let excess = aside.len().saturating_sub(kept);
    for (_, path) in aside.into_iter().take(excess) {
        let _ = fs::remove_dir_all(path);
    }
}

fn make_folder(execution: &ExecutionDir) -> Result<(), StorageError> {
    let make = || fs::DirBuilder::new().mode(0o700).create(execution.path());
    make().map_err(StorageError::io("create", execution.path()))
}

fn is_locked(execution: &ExecutionDir) -> Result<bool, StorageError> {
    let path = execution.lock();
    if !storage::exists(&path)? {
        return Ok(false);
    }
    match FileLock::take(&path) {
        Ok(_) => Ok(false),
        Err(LockError::Held) => Ok(true),
        Err(LockError::Io(source)) => Err(StorageError::io("lock", &path)(source)),
    }
}
