//! Checks that files which decide what root runs belong to root and can't be changed by other
//! users.
//!
//! Checks owners and modes, not contents. An agent that is not root can do no more than the owner
//! of its files, so nothing is checked then.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::platform;

const GROUP_OR_OTHERS_WRITE: u32 = 0o022;

/// Why a file is not read or not run. The messages are shown to the host's owner.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    #[error(
        "{0} decides what root runs, so it must belong to root and only root may write to it; check its content, then: chown root '{0}'; chmod go-w '{0}'", path.display()
    )]
    Unsafe { path: PathBuf },
    #[error("{} is larger than {most} bytes", path.display())]
    TooLarge { path: PathBuf, most: u64 },
    #[error("{}: {source}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl GuardError {
    /// True if the file does not exist.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Checks a file or folder, following links.
///
/// # Errors
/// [`GuardError::Unsafe`] if this process is root and another user could change the file.
pub fn check(path: &Path) -> Result<(), GuardError> {
    let metadata = fs::metadata(path).map_err(io_error(path))?;
    check_metadata(path, &metadata)
}

/// Checks a path inside a folder: the folder and everything between it and the end of the path.
/// Below the folder, `owner` is trusted as much as root.
///
/// # Errors
/// As [`check`].
pub fn check_within(folder: &Path, path: &Path, owner: u32) -> Result<(), GuardError> {
    check(folder)?;
    path.ancestors().take_while(|part| *part != folder && part.starts_with(folder)).try_for_each(
        |part| {
            let metadata = fs::metadata(part).map_err(io_error(part))?;
            let is_owners = metadata.uid() == owner && !is_open(&metadata);
            if is_owners { Ok(()) } else { check_metadata(part, &metadata) }
        },
    )
}

/// Reads a text of at most `most` bytes. The opened file itself is checked, and the folder that
/// contains it.
///
/// # Errors
/// [`GuardError`] with a message for the host's owner.
pub fn read_text(path: &Path, most: u64) -> Result<String, GuardError> {
    if let Some(folder) = path.parent() {
        check(folder)?;
    }
    let file = File::open(path).map_err(io_error(path))?;
    let metadata = file.metadata().map_err(io_error(path))?;
    check_metadata(path, &metadata)?;
    let mut text = String::new();
    file.take(most + 1).read_to_string(&mut text).map_err(io_error(path))?;
    if text.len() as u64 > most {
        return Err(GuardError::TooLarge { path: path.to_owned(), most });
    }
    Ok(text)
}

fn check_metadata(path: &Path, metadata: &Metadata) -> Result<(), GuardError> {
    let is_roots = metadata.uid() == 0 && !is_open(metadata);
    if is_roots || !platform::is_root() {
        return Ok(());
    }
    Err(GuardError::Unsafe { path: path.to_owned() })
}

fn is_open(metadata: &Metadata) -> bool {
    metadata.mode() & GROUP_OR_OTHERS_WRITE != 0
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> GuardError {
    move |source| GuardError::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, chown};

    #[test]
    fn root_trusts_only_files_that_no_other_user_can_write() {
        assert!(platform::is_root(), "this test needs root: run the tests as root");
        let folder = tempfile::tempdir().expect("temporary folder");
        let (inner, file) = (folder.path().join("inner"), folder.path().join("inner/file"));
        fs::create_dir(&inner).expect("created");
        fs::write(&file, "text").expect("written");
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("mode");
        };
        mode(&inner, 0o755);
        mode(&file, 0o644);
        assert_eq!(read_text(&file, 4).expect("root's own"), "text");
        assert!(matches!(read_text(&file, 3), Err(GuardError::TooLarge { .. })));
        check_within(folder.path(), &file, 0).expect("root's own");
        for (path, unsafe_mode, safe_mode) in [(&file, 0o664, 0o644), (&inner, 0o757, 0o755)] {
            mode(path, unsafe_mode);
            let refused = read_text(&file, 4).expect_err("writable by others").to_string();
            let mend = format!("chmod go-w '{}'", path.display());
            assert!(refused.contains(&mend), "{refused}");
            check_within(folder.path(), &file, 0).expect_err("writable by others");
            mode(path, safe_mode);
        }
        chown(&file, Some(65_534), None).expect("given away");
        let refused = check(&file).expect_err("another's").to_string();
        assert!(refused.contains(&format!("chown root '{}'", file.display())), "{refused}");
    }
}
