//! Private files of an execution: secret parameters, for scripts whose manifest entry says
//! `"secrets": "file"`, parameters that are files, and the data of a call.
//!
//! The shim writes them before it starts the script and removes them when it has ended. Files that a
//! killed shim leaves, the agent removes when it settles the execution, and when it starts.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use uuid::Uuid;

use crate::platform::{self, Account};
use crate::storage::layout::{ExecutionDir, StateDir, id_of_name};
use crate::storage::{add_permissions, ensure_private_directory};

/// Writes files, by name, that only the user that the script runs as can read. Returns the names and the
/// paths.
///
/// # Errors
/// The system's error; nothing is left then.
pub fn write(
    execution: &ExecutionDir,
    files: &[(&str, &[u8])],
    account: Option<&Account>,
) -> io::Result<Vec<(String, PathBuf)>> {
    write_files(execution, files, account).inspect_err(|_| remove(execution))
}

fn write_files(
    execution: &ExecutionDir,
    files: &[(&str, &[u8])],
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
    let mut written = Vec::with_capacity(files.len());
    for (name, bytes) in files {
        let path = folder.join(name);
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(bytes)?;
        if let Some(account) = account {
            account.own(&file)?;
        }
        written.push(((*name).to_owned(), path));
    }
    // Last, so that the user can't put anything in the way before.
    if let Some(account) = account {
        account.own(&fs::File::open(&folder)?)?;
    }
    Ok(written)
}

/// Reads a file of the execution back, up to a size. The user may have put anything in its place: nothing
/// but a plain file of this user is read.
///
/// # Errors
/// The system's error.
pub fn read(
    execution: &ExecutionDir,
    name: &str,
    account: Option<&Account>,
    most_bytes: usize,
) -> io::Result<Vec<u8>> {
    let folder = execution.secrets().ok_or(io::ErrorKind::NotFound)?;
    let file = platform::open_plain_file(&folder.join(name), account.map(Account::user_id))?;
    let mut bytes = Vec::new();
    file.take(most_bytes as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_file_of_the_user_itself_is_read_back() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let state = StateDir::create(folder.path()).expect("state directory");
        let execution = state.execution(Uuid::from_u128(1));
        let files: [(&str, &[u8]); 2] = [("data", b"{}"), ("DECISION", b"")];
        let written = write(&execution, &files, None).expect("written");
        let path = &written[0].1;
        let read = |most| read(&execution, "data", None, most);
        assert_eq!(read(10).expect("read"), b"{}");
        assert_eq!(read(1).expect("read"), b"{");
        // The script may put anything in the place of the file.
        let other = folder.path().join("other");
        fs::write(&other, "secret").expect("written");
        let replaced = |put: &dyn Fn()| {
            let _ = fs::remove_file(path);
            put();
            read(10).is_err()
        };
        assert!(replaced(&|| std::os::unix::fs::symlink(&other, path).expect("linked")));
        assert!(replaced(&|| fs::hard_link(&other, path).expect("linked")));
        assert!(replaced(&|| crate::platform::make_fifo(path).expect("made")));
        assert!(replaced(&|| {}));
        fs::write(path, "new").expect("written");
        assert_eq!(read(10).expect("read"), b"new");
    }
}
