//! A folder of a working tree, opened once: everything in it is read and written relative to the handle,
//! and never through a symbolic link, which could lead anywhere.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::libc;
use nix::sys::stat::{Mode, fstatat, mkdirat};

use crate::error::CliError;
use crate::output::printer::print_note;
use crate::output::text::sanitize;

/// An open folder.
pub struct OpenFolder {
    handle: OwnedFd,
    path: PathBuf,
}

impl OpenFolder {
    /// Opens the folder that a person named. Links in this path are the person's own.
    ///
    /// # Errors
    /// [`CliError::File`].
    pub fn open(path: &Path) -> Result<Self, CliError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let handle = open(path, flags, Mode::empty())
            .map_err(|errno| CliError::file("open", path)(errno.into()))?;
        Ok(Self { handle, path: path.to_owned() })
    }

    /// [`OpenFolder::open`]; creates the folder if there is none.
    ///
    /// # Errors
    /// [`CliError::File`].
    pub fn create(path: &Path) -> Result<Self, CliError> {
        fs::create_dir_all(path).map_err(CliError::file("create", path))?;
        Self::open(path)
    }

    /// For messages, and for the name of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of the folders in it, sorted, without hidden ones. Links are skipped with a note.
    ///
    /// # Errors
    /// [`CliError::File`].
    pub fn folder_names(&self) -> Result<Vec<OsString>, CliError> {
        let entries = fs::read_dir(&self.path).map_err(CliError::file("list", &self.path))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(CliError::file("list", &self.path))?;
            let name = entry.file_name();
            let kind = entry.file_type().map_err(CliError::file("read", &entry.path()))?;
            if name.to_string_lossy().starts_with('.') {
                continue;
            }
            if kind.is_dir() {
                names.push(name);
            } else if kind.is_symlink() && entry.path().is_dir() {
                print_note(&format!("{}; skipped", is_a_link(&entry.path())));
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// A folder in it; `None` if nothing has this name.
    ///
    /// # Errors
    /// [`CliError`] names a link, or what is no folder.
    pub fn folder(&self, name: &OsStr) -> Result<Option<Self>, CliError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let handle = self.open_part(name, flags, "open")?;
        Ok(handle.map(|handle| Self { handle, path: self.path.join(name) }))
    }

    /// [`OpenFolder::folder`]; creates the folder if there is none.
    ///
    /// # Errors
    /// As [`OpenFolder::folder`].
    pub fn create_folder(&self, name: &OsStr) -> Result<Self, CliError> {
        let path = self.path.join(name);
        check_part(name, &path)?;
        let failed = |errno: Errno| CliError::file("create", &path)(errno.into());
        match mkdirat(&self.handle, name, Mode::from_bits_truncate(0o777)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(failed(errno)),
        }
        self.folder(name)?.ok_or_else(|| failed(Errno::ENOENT))
    }

    /// The text of a file in it; `None` if nothing has this name, or a folder has.
    ///
    /// # Errors
    /// [`CliError`] names a link, what is no file, and a file of more than `max_bytes`.
    pub fn read(&self, name: &OsStr, max_bytes: usize) -> Result<Option<String>, CliError> {
        let path = self.path.join(name);
        let Some(handle) = self.open_part(name, OFlag::O_RDONLY, "read")? else {
            return Ok(None);
        };
        let file = File::from(handle);
        let metadata = file.metadata().map_err(CliError::file("read", &path))?;
        if metadata.is_dir() {
            return Ok(None);
        }
        if !metadata.is_file() {
            return Err(is_no_file(&path));
        }
        let mut text = String::new();
        let mut bounded = file.take(max_bytes as u64 + 1);
        bounded.read_to_string(&mut text).map_err(CliError::file("read", &path))?;
        match text.len() > max_bytes {
            true => Err(CliError::Usage(format!(
                "{} is larger than {} KiB",
                path.display(),
                max_bytes / 1024
            ))),
            false => Ok(Some(text)),
        }
    }

    /// Writes a file in it.
    ///
    /// # Errors
    /// As [`OpenFolder::read`].
    pub fn write(&self, name: &OsStr, text: &str) -> Result<(), CliError> {
        let path = self.path.join(name);
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT;
        let failed = || CliError::file("write", &path);
        let handle = self.open_part(name, flags, "write")?;
        let mut file = File::from(handle.ok_or_else(|| failed()(Errno::ENOENT.into()))?);
        if !file.metadata().map_err(failed())?.is_file() {
            return Err(is_no_file(&path));
        }
        // Truncated only after the check, so that nothing but a regular file is changed.
        file.set_len(0).map_err(failed())?;
        file.write_all(text.as_bytes()).map_err(failed())
    }

    fn open_part(
        &self,
        name: &OsStr,
        flags: OFlag,
        action: &'static str,
    ) -> Result<Option<OwnedFd>, CliError> {
        let path = self.path.join(name);
        check_part(name, &path)?;
        // A pipe must not make the program wait.
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        match openat(&self.handle, name, flags, Mode::from_bits_truncate(0o666)) {
            Ok(handle) => Ok(Some(handle)),
            Err(Errno::ENOENT) => Ok(None),
            Err(_) if self.is_link(name) => Err(CliError::Usage(format!(
                "{}; scripts are neither read nor written through links",
                is_a_link(&path)
            ))),
            Err(errno) => Err(CliError::file(action, &path)(errno.into())),
        }
    }

    fn is_link(&self, name: &OsStr) -> bool {
        let stat = fstatat(&self.handle, name, AtFlags::AT_SYMLINK_NOFOLLOW);
        stat.is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFLNK)
    }
}

/// Refuses names that are not exactly one component of a path.
fn check_part(name: &OsStr, path: &Path) -> Result<(), CliError> {
    let is_part = !matches!(name.as_encoded_bytes(), b"" | b"." | b"..")
        && !name.as_encoded_bytes().contains(&b'/');
    match is_part {
        true => Ok(()),
        false => Err(CliError::Usage(format!("{} leaves its folder", path.display()))),
    }
}

fn is_a_link(path: &Path) -> String {
    sanitize(&format!("{} is a symbolic link", path.display()))
}

fn is_no_file(path: &Path) -> CliError {
    CliError::Usage(format!("{} is not a regular file", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_read_or_written_through_links_or_outside() {
        let root = tempfile::tempdir().expect("temporary folder");
        let outside = tempfile::tempdir().expect("temporary folder");
        fs::write(outside.path().join("secret"), "before").expect("written");
        let link = |to: &Path, name: &str| {
            std::os::unix::fs::symlink(to, root.path().join(name)).expect("linked");
        };
        link(outside.path(), "folder");
        link(&outside.path().join("secret"), "file");
        link(&outside.path().join("new"), "dangling");
        let folder = OpenFolder::open(root.path()).expect("open");
        assert!(folder.folder("folder".as_ref()).is_err());
        assert!(folder.create_folder("folder".as_ref()).is_err());
        for name in ["file", "dangling"] {
            let refused = folder.write(name.as_ref(), "after").expect_err(name).to_string();
            assert!(refused.contains(name) && refused.contains("symbolic link"), "{refused}");
            assert!(folder.read(name.as_ref(), 9).is_err(), "{name}");
        }
        for name in ["", ".", "..", "../x", "a/b", "/etc/passwd"] {
            assert!(folder.read(name.as_ref(), 9).is_err(), "{name}");
            assert!(folder.write(name.as_ref(), "x").is_err(), "{name}");
            assert!(folder.create_folder(name.as_ref()).is_err(), "{name}");
        }
        assert_eq!(fs::read(outside.path().join("secret")).expect("read"), b"before");
        assert!(!outside.path().join("new").exists());
        let inner = folder.create_folder("inner".as_ref()).expect("created");
        inner.write("a".as_ref(), "longer").expect("written");
        inner.write("a".as_ref(), "text").expect("written");
        assert_eq!(inner.read("a".as_ref(), 4).expect("read").as_deref(), Some("text"));
        assert!(inner.read("a".as_ref(), 3).is_err());
        assert!(inner.read("none".as_ref(), 3).expect("read").is_none());
        assert_eq!(folder.folder_names().expect("listed"), ["inner"]);
    }
}
