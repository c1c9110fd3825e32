//! An execution's folder: the order in which its files are written, and what they mean.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use muster_protocol::commands::step::MAX_STEP_RESULT_BYTES;
use uuid::Uuid;

use super::record::{CALL_BYTES, CommandRecord, EXIT_BYTES, ParameterRecord, Settlement};
use super::recovery::OnDiskState;
use super::{checkpoints, window};
use crate::executions::library_cache::{self, LibraryFile};
use crate::executions::output_release;
use crate::executions::secret_files;
use crate::platform::{FileLock, LockError, make_fifo};
use crate::storage::layout::{ExecutionDir, StateDir};
use crate::storage::{self, StorageError, UnsyncedFile};

/// Writes everything that a shim needs and reserves space for its result; [`sync_command`] makes it
/// durable.
pub fn write_command(
    execution: &ExecutionDir,
    record: &CommandRecord,
    parameters: &ParameterRecord,
    bodies: &[LibraryFile],
) -> Result<Vec<UnsyncedFile>, StorageError> {
    make_folder(execution)?;
    // Only a folder that was created here may be removed: an existing one belongs to another
    // command.
    write_files(execution, record, parameters, bodies).inspect_err(|_| remove_execution(execution))
}

fn write_files(
    execution: &ExecutionDir,
    record: &CommandRecord,
    parameters: &ParameterRecord,
    bodies: &[LibraryFile],
) -> Result<Vec<UnsyncedFile>, StorageError> {
    if let Some(state) = execution.state().filter(|_| !bodies.is_empty()) {
        library_cache::keep(&StateDir::at(state), execution, bodies)?;
    }
    let mut written = Vec::with_capacity(3);
    if let Some(launch) = &record.launch {
        make_fifo(&execution.control())
            .map_err(StorageError::io("create", &execution.control()))?;
        // The space is allocated at once, so that the file needs no sync of its own.
        let call_bytes = launch.call.as_ref().map_or(0, |_| CALL_BYTES);
        let step_bytes = launch.steps.len() * MAX_STEP_RESULT_BYTES;
        storage::reserve(&execution.exit(), EXIT_BYTES + call_bytes + step_bytes)?;
    }
    if !parameters.is_empty() {
        let bytes = storage::seal(parameters);
        written.push(UnsyncedFile::create(execution.parameters(), &bytes)?);
    }
    // Written and synced last, because this file is the acceptance.
    written.push(UnsyncedFile::create(execution.command(), &storage::seal(record))?);
    Ok(written)
}

/// Makes a written command durable. The folder's own name becomes durable when its parent is
/// synced.
pub fn sync_command(
    execution: &ExecutionDir,
    written: Vec<UnsyncedFile>,
) -> Result<(), StorageError> {
    for file in written {
        file.sync()?;
    }
    storage::sync_directory(execution.path())
}

/// Writes the agent's result for a command.
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
        // On a full disk the space that was reserved at acceptance is still available.
        write_in_place(&execution.exit(), &bytes).map_err(|_| error)
    })
}

/// Overwrites the space that is reserved for an exit record. No shim may have it open.
fn write_in_place(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).open(path)?;
    if bytes.len() > EXIT_BYTES {
        return Err(std::io::ErrorKind::FileTooLarge.into());
    }
    file.write_all(bytes)?;
    file.sync_data()
}

/// The result of a command; the agent's result takes precedence over the shim's.
///
/// # Errors
/// If a result may exist that can't be read. A damaged result, and reserved space that was never
/// written, count as none.
pub fn read_settlement(execution: &ExecutionDir) -> Result<Option<Settlement>, StorageError> {
    match storage::read_whole(&execution.settled())? {
        Some(settlement) => Ok(Some(settlement)),
        None => storage::read_whole(&execution.exit()),
    }
}

/// Moves the result out of an execution's folder and deletes everything large or secret. True if
/// the result was kept.
pub fn archive_settlement(execution: &ExecutionDir, kept: &Path) -> bool {
    let is_moved = [execution.settled(), execution.exit()].iter().any(|path| {
        storage::read_sealed::<Settlement>(path).is_ok_and(|read| read.is_some())
            && fs::rename(path, kept).is_ok()
    });
    if is_moved {
        let _ = fs::remove_file(execution.output());
        let _ = fs::remove_file(checkpoints::path_of(&execution.output()));
        let _ = fs::remove_file(output_release::path_of(&execution.output()));
        let _ = fs::remove_file(execution.parameters());
    }
    is_moved
}

/// Reads all files that show the state of a command.
///
/// The order keeps the state consistent while a shim starts or ends: a start mark that is seen was
/// written under a lock that is checked later, and a lock that was freed again was freed
/// after the result was written, which is read last.
///
/// # Errors
/// If a file may exist that can't be read. A decision without it could kill a running execution or
/// break a promise.
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

/// Removes an execution's folder. If that fails, the next start finds it again.
pub fn remove_execution(execution: &ExecutionDir) {
    if let Err(error) = fs::remove_dir_all(execution.path())
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %execution.path().display(), %error, "failed to remove an execution's folder");
    }
}

/// Moves the ledger away, and deletes of the ledgers that were moved earlier the oldest ones without
/// results and those with results that are older than `keep`.
pub fn set_aside(state: &StateDir, kept: usize, keep: Duration) -> Result<(), StorageError> {
    let aside = state.set_aside(Uuid::new_v4());
    storage::ensure_private_directory(&aside)?;
    // Executions are moved first: after a crash in between there is a ledger without executions,
    // which runs nothing, and never an execution without its ledger.
    for path in [state.executions(), state.settled(), state.ledger()] {
        if path.exists() {
            let target = aside.join(path.file_name().unwrap_or_default());
            fs::rename(&path, &target).map_err(StorageError::io("set aside", &path))?;
        }
    }
    storage::sync_directory(&aside)?;
    storage::sync_directory(state.path())?;
    delete_parameters(state);
    secret_files::remove_stale(state, |_| false);
    remove_oldest(state.path(), kept, keep);
    state.ensure_ledger()
}

/// Deletes parameter values from ledgers that were set aside: nothing runs from there, and the
/// values may be secret.
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

/// The folders with results that no server has acknowledged and that are to be kept.
pub fn set_aside_with_results(path: &Path, keep: Duration) -> Vec<PathBuf> {
    let is_kept = |(at, path): &(SystemTime, PathBuf)| {
        // A clock that was set back makes none old.
        at.elapsed().unwrap_or_default() < keep
            && has_results(&path.join("executions"), &path.join("settled"))
    };
    set_aside_folders(path).into_iter().filter(is_kept).map(|(_, path)| path).collect()
}

/// True if something was started there of which no server has acknowledged the result.
pub fn has_results(executions: &Path, settled: &Path) -> bool {
    let Ok(entries) = fs::read_dir(executions) else { return false };
    entries.flatten().any(|entry| {
        // What can't be checked counts as there.
        storage::exists(&ExecutionDir::at(entry.path()).started()).unwrap_or(true)
            && !storage::exists(&settled.join(entry.file_name())).unwrap_or(false)
    })
}

/// Space that a folder takes on the disk.
pub fn size_of(path: &Path) -> u64 {
    const BLOCK_BYTES: u64 = 512;
    let own = fs::symlink_metadata(path).map_or(0, |data| data.blocks() * BLOCK_BYTES);
    let Ok(entries) = fs::read_dir(path) else { return own };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => size_of(&entry.path()),
        Ok(data) => data.blocks() * BLOCK_BYTES,
        Err(_) => 0,
    };
    own + entries.flatten().map(size).sum::<u64>()
}

fn remove_oldest(path: &Path, kept: usize, keep: Duration) {
    let with_results = set_aside_with_results(path, keep);
    let mut aside = set_aside_folders(path);
    aside.retain(|(_, path)| !with_results.contains(path));
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
