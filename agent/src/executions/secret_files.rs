//! Secret parameters as files, for scripts whose manifest entry says `"secrets": "file"`.
//!
//! The shim writes them before it starts the script and removes them when it has ended. Files that a
//! killed shim leaves, the agent removes when it settles the execution, and when it starts.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use muster_protocol::secret_parameters::SecretParameters;
use uuid::Uuid;

use crate::platform::Account;
use crate::storage::layout::{ExecutionDir, StateDir, id_of_name};
use crate::storage::{add_permissions, ensure_private_directory};

/// Writes one file per secret, named like the parameter and readable only by the user that the
/// script runs as. Returns the names and the paths.
///
/// # Errors
/// The system's error; nothing is left then.
pub fn write(
    execution: &ExecutionDir,
    secrets: &SecretParameters,
    account: Option<&Account>,
) -> io::Result<Vec<(String, PathBuf)>> {
    write_files(execution, secrets, account).inspect_err(|_| remove(execution))
}

fn write_files(
    execution: &ExecutionDir,
    secrets: &SecretParameters,
    account: Option<&Account>,
) -> io::Result<Vec<(String, PathBuf)>> {
    let (Some(folder), Some(state)) = (execution.secrets(), execution.state()) else {
        return Err(io::ErrorKind::NotFound.into());
    };
    let parent = StateDir::at(state).secrets();
    ensure_private_directory(&parent).map_err(io::Error::other)?;
    if account.is_some() {
        // The user must reach its own folder; it can't list the others, and can't enter those of
        // other users.
        add_permissions(&parent, 0o011).map_err(io::Error::other)?;
    }
    // A shim that was killed before it started the script may have left some.
    remove(execution);
    fs::DirBuilder::new().mode(0o700).create(&folder)?;
    let mut written = Vec::with_capacity(secrets.len());
    for (name, value) in secrets.iter() {
        let path = folder.join(name);
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(value.as_bytes())?;
        if let Some(account) = account {
            account.own(&file)?;
        }
        written.push((name.to_owned(), path));
    }
    // Last, so that the user can't put anything in the way before.
    if let Some(account) = account {
        account.own(&fs::File::open(&folder)?)?;
    }
    Ok(written)
}

/// Removes the files of an execution, if there are any.
pub fn remove(execution: &ExecutionDir) {
    let Some(folder) = execution.secrets() else { return };
    if let Err(error) = fs::remove_dir_all(&folder)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::error!(path = %folder.display(), %error, "failed to remove secret files");
    }
}

/// Removes the files of all executions except those that run.
pub fn remove_stale(state: &StateDir, is_running: impl Fn(Uuid) -> bool) {
    let Ok(folders) = fs::read_dir(state.secrets()) else { return };
    let names = folders.flatten().map(|folder| folder.file_name());
    let ids = names.filter_map(|name: OsString| id_of_name(name.to_str()?));
    ids.filter(|id| !is_running(*id)).for_each(|id| remove(&state.execution(id)));
}
