//! Checks the state directory and its free space. Leaves no file and takes no lock, so that it may
//! run beside an agent.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::finding::{Check, Finding};
use crate::commands::decision::MIN_FREE_BYTES;
use crate::platform;

const MIB: u64 = 1024 * 1024;

/// Checks whether the agent may write to the state directory, or may create it.
pub fn state_directory(path: &Path) -> Finding {
    let check = Check::StateDirectory;
    let shown = path.display();
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_dir() => Finding::fail(
            check,
            format!("{shown} is not a directory"),
            "move it away, or set another directory with --state-dir or MUSTER_STATE_DIR",
        ),
        Ok(_) => match probe(path) {
            Ok(()) => Finding::ok(check, format!("{shown} is writable")),
            Err(error) => Finding::fail(
                check,
                format!("{shown} is not writable: {error}"),
                "run the agent as the directory's owner, or free some space and mount it writable",
            ),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = existing(path);
            if platform::may_write(&parent) {
                return Finding::ok(check, format!("{shown} will be created at the first start"));
            }
            Finding::warn(
                check,
                format!("{shown} does not exist, and {} is not writable", parent.display()),
                "create it for the agent's user, or set another directory with --state-dir or MUSTER_STATE_DIR",
            )
        }
        Err(error) => Finding::fail(
            check,
            format!("failed to access {shown}: {error}"),
            "run the agent as a user who may enter it",
        ),
    }
}

/// Checks whether there is enough space to accept commands.
pub fn disk(path: &Path) -> Finding {
    let check = Check::Disk;
    let place = existing(path);
    match platform::disk_free_bytes(&place) {
        Ok(free) if free >= MIN_FREE_BYTES => {
            Finding::ok(check, format!("{} MiB free at {}", free / MIB, place.display()))
        }
        Ok(free) => Finding::fail(
            check,
            format!("only {} MiB free at {}", free / MIB, place.display()),
            format!("free at least {} MiB, otherwise commands are rejected", MIN_FREE_BYTES / MIB),
        ),
        Err(error) => Finding::warn(
            check,
            format!("failed to read the free space at {}: {error}", place.display()),
            "check that its file system is mounted",
        ),
    }
}

/// Writes to a file that is unlinked before it has any content.
fn probe(path: &Path) -> io::Result<()> {
    let name = path.join(format!(".doctor-{}", Uuid::new_v4()));
    let mut file = File::options().write(true).create_new(true).open(&name)?;
    fs::remove_file(&name)?;
    file.write_all(b"x")
}

/// The directory itself, or its nearest parent that exists.
fn existing(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let found = absolute.ancestors().find(|ancestor| ancestor.exists());
    found.unwrap_or(Path::new("/")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::finding::CheckStatus;
    use super::*;

    #[test]
    fn checking_a_state_directory_changes_nothing_in_it() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let count = || fs::read_dir(folder.path()).expect("read").count();
        assert_eq!(state_directory(folder.path()).status, CheckStatus::Ok);
        let absent = folder.path().join("not/yet");
        assert_eq!(state_directory(&absent).status, CheckStatus::Ok);
        assert!(disk(&absent).detail.contains(&folder.path().display().to_string()));
        assert_eq!(count(), 0);
        let file = folder.path().join("file");
        fs::write(&file, "").expect("written");
        assert_eq!(state_directory(&file).status, CheckStatus::Fail);
        assert_eq!(state_directory(Path::new("/proc")).status, CheckStatus::Fail);
    }
}
