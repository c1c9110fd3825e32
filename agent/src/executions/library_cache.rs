//! Bodies of library scripts, by their SHA-256: `library/SHA256.ENDING` in the state directory.
//!
//! An execution keeps its body by a second link in its own folder, so the cache removes only bodies that
//! no execution needs: they have one link.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::storage::layout::{ExecutionDir, StateDir};
use crate::storage::{self, StorageError};

/// Most bodies that are kept.
const MAX_CACHED_BODIES: usize = 256;
/// Size of the bodies that are kept.
const MAX_CACHE_BYTES: u64 = 32 * 1024 * 1024;

/// The body of an accepted command.
#[derive(Debug)]
pub struct LibraryFile {
    /// The SHA-256 and an ending.
    pub name: String,
    pub body: String,
    /// Another user must be able to read it.
    pub is_shared: bool,
}

/// Stores bodies durably and links them into the folder of their execution.
///
/// # Errors
/// The system's error; the command must not be accepted then.
pub fn keep(
    state: &StateDir,
    execution: &ExecutionDir,
    bodies: &[LibraryFile],
) -> Result<(), StorageError> {
    let folder = state.library();
    storage::ensure_private_directory(&folder)?;
    for (number, file) in bodies.iter().enumerate() {
        keep_one(&folder, file, &execution.body(number))?;
    }
    shrink(&folder, MAX_CACHED_BODIES, MAX_CACHE_BYTES);
    Ok(())
}

fn keep_one(folder: &Path, file: &LibraryFile, link: &Path) -> Result<(), StorageError> {
    let path = folder.join(&file.name);
    // What is there may be damaged, or changed by a script of the same user.
    if fs::read(&path).is_ok_and(|bytes| bytes == file.body.as_bytes()) {
        // The time of the last use decides what is removed first; without it nothing is lost.
        let _ = fs::File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
    } else {
        storage::replace_synced(&path, file.body.as_bytes())?;
    }
    if file.is_shared {
        // By name only: the folder can't be listed.
        storage::add_permissions(folder, 0o011)?;
        storage::add_permissions(&path, 0o044)?;
    }
    fs::hard_link(&path, link).map_err(StorageError::io("link", link))
}

/// Removes the bodies that were not used for the longest time, if there are too many.
fn shrink(folder: &Path, most: usize, most_bytes: u64) {
    let mut bodies = match bodies(folder) {
        Ok(bodies) => bodies,
        Err(error) => {
            tracing::warn!(path = %folder.display(), %error, "failed to list the library's cache");
            return;
        }
    };
    bodies.sort_unstable_by_key(|body| body.used_at);
    let mut bytes: u64 = bodies.iter().map(|body| body.bytes).sum();
    let mut count = bodies.len();
    for body in bodies.into_iter().filter(|body| !body.is_needed) {
        if count <= most && bytes <= most_bytes {
            return;
        }
        if let Err(error) = fs::remove_file(&body.path) {
            tracing::warn!(path = %body.path.display(), %error, "failed to remove a cached script");
            continue;
        }
        count -= 1;
        bytes -= body.bytes;
    }
}

struct Body {
    path: PathBuf,
    used_at: SystemTime,
    bytes: u64,
    is_needed: bool,
}

fn bodies(folder: &Path) -> io::Result<Vec<Body>> {
    let mut bodies = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bodies.push(Body {
            path: entry.path(),
            used_at: metadata.modified()?,
            bytes: metadata.len(),
            is_needed: metadata.nlink() > 1,
        });
    }
    Ok(bodies)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn file(name: &str, body: &str) -> LibraryFile {
        LibraryFile { name: name.into(), body: body.into(), is_shared: false }
    }

    #[test]
    fn only_bodies_that_no_execution_needs_are_removed() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let state = StateDir::create(folder.path()).expect("state directory");
        let executions: Vec<_> = (1..=3).map(|n| state.execution(Uuid::from_u128(n))).collect();
        for (execution, name) in executions.iter().zip(["a", "b", "c"]) {
            fs::create_dir(execution.path()).expect("created");
            keep(&state, execution, &[file(name, name)]).expect("kept");
        }
        shrink(&state.library(), 0, 0);
        assert_eq!(fs::read_dir(state.library()).expect("listed").count(), 3);
        fs::remove_dir_all(executions[1].path()).expect("removed");
        shrink(&state.library(), 0, 0);
        assert!(!state.library().join("b").exists());
        assert_eq!(fs::read_to_string(executions[0].body(0)).expect("read"), "a");
        fs::remove_dir_all(executions[0].path()).expect("removed");
        shrink(&state.library(), 2, 1_000);
        assert!(state.library().join("a").exists(), "there is room");
    }

    #[test]
    fn a_changed_body_is_replaced_before_it_is_used_again() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let state = StateDir::create(folder.path()).expect("state directory");
        let (one, two) = (state.execution(Uuid::from_u128(1)), state.execution(Uuid::from_u128(2)));
        for execution in [&one, &two] {
            fs::create_dir(execution.path()).expect("created");
        }
        keep(&state, &one, &[file("a", "good")]).expect("kept");
        fs::write(state.library().join("a"), "evil").expect("written");
        keep(&state, &two, &[file("a", "good")]).expect("kept");
        assert_eq!(fs::read_to_string(state.library().join("a")).expect("read"), "good");
        assert_eq!(fs::read_to_string(two.body(0)).expect("read"), "good");
    }
}
