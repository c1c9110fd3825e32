//! Unpacks an archive into the folder of an execution. Blocks.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use muster_protocol::package::archive::{self, ArchiveEntry, ArchiveError};
use muster_protocol::package::{EntryKind, EntryProblem};

use super::{Cancelled, PackageError, is_cancelled, is_full, remove, unpacked_limit};
use crate::executions::ledger::record::Launch;
use crate::storage::layout::{ExecutionDir, StateDir};
use crate::storage::{add_permissions, ensure_private_directory};

/// Unpacks an archive whose hash was checked.
///
/// # Errors
/// [`PackageError`]; the folder may be there then.
pub fn unpack(
    archive: File,
    execution: &ExecutionDir,
    launch: &Launch,
    cancelled: &Cancelled,
) -> Result<(), PackageError> {
    let disk = || PackageError::disk("unpacked");
    let (Some(folder), Some(state)) = (execution.package(), execution.state()) else {
        return Err(disk()(io::ErrorKind::NotFound.into()));
    };
    let state = StateDir::at(state);
    let is_shared = launch.run_as.is_some();
    make_parent(&state, is_shared).map_err(disk())?;
    remove(execution);
    let modes = Modes::of(is_shared);
    make_folder(&folder, modes).map_err(disk())?;
    let archive_bytes = archive.metadata().map_err(disk())?.len();
    let mut left_bytes = unpacked_limit(&state);
    let mut visit = |entry: ArchiveEntry<'_>, content: &mut dyn Read| -> io::Result<()> {
        if is_cancelled(cancelled) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        // Its parts are plain names, which was checked before.
        let path = folder.join(entry.path);
        if entry.kind == EntryKind::Folder {
            return make_folders(&folder, &path, modes);
        }
        make_folders(&folder, path.parent().unwrap_or(&folder), modes)?;
        let is_program = launch.interpreter.is_none() && entry.path == launch.path;
        let mode = modes.of_file(entry.is_executable || is_program);
        let written = write(content, &path, mode, left_bytes)?;
        left_bytes = left_bytes.checked_sub(written).ok_or(io::ErrorKind::StorageFull)?;
        Ok(())
    };
    let (_, entries) =
        archive::read(archive, archive_bytes, &mut visit).map_err(|error| match error {
            ArchiveError::Visit(_) if is_cancelled(cancelled) => PackageError::Cancelled,
            ArchiveError::Visit(source) if is_full(&source) => PackageError::NoSpace,
            ArchiveError::Visit(source) => disk()(source),
            error => PackageError::Archive(error),
        })?;
    let entry: Result<(), EntryProblem> = entries.require_file(&launch.path);
    entry.map_err(|problem| PackageError::Archive(problem.into()))
}

/// Modes of files and folders. Only the agent's user can write.
#[derive(Clone, Copy)]
struct Modes {
    folder: u32,
    file: u32,
    program: u32,
}

impl Modes {
    /// `is_shared`: another user reads them.
    fn of(is_shared: bool) -> Self {
        match is_shared {
            true => Self { folder: 0o755, file: 0o644, program: 0o755 },
            false => Self { folder: 0o700, file: 0o600, program: 0o700 },
        }
    }

    fn of_file(self, is_executable: bool) -> u32 {
        if is_executable { self.program } else { self.file }
    }
}

fn make_parent(state: &StateDir, is_shared: bool) -> io::Result<()> {
    ensure_private_directory(&state.packages()).map_err(io::Error::other)?;
    if is_shared {
        // By name only: the folder can't be listed.
        add_permissions(&state.packages(), 0o011).map_err(io::Error::other)?;
    }
    Ok(())
}

/// Makes a folder and those above it, down from `within`.
fn make_folders(within: &Path, path: &Path, modes: Modes) -> io::Result<()> {
    if path == within || path.is_dir() {
        return Ok(());
    }
    make_folders(within, path.parent().unwrap_or(within), modes)?;
    make_folder(path, modes)
}

fn make_folder(path: &Path, modes: Modes) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)?;
    // Apart, because the process's mask does not count then.
    fs::set_permissions(path, fs::Permissions::from_mode(modes.folder))
}

/// Writes a new file, of at most `most_bytes`.
fn write(content: &mut dyn Read, path: &Path, mode: u32, most_bytes: u64) -> io::Result<u64> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
    let written = io::copy(&mut content.take(most_bytes.saturating_add(1)), &mut file)?;
    file.flush()?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    Ok(written)
}
