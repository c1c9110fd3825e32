//! Small files that survive a power cut, and careful reading of files that others may have written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest small file.
const MAX_BYTES: u64 = 64 * 1024;

/// A file or folder could not be read or changed.
#[derive(Debug, thiserror::Error)]
#[error("failed to {action} {}", path.display())]
pub struct FileError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl FileError {
    /// Adds the action and the path to the system's error.
    pub(super) fn of(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { action, path: path.to_owned(), source }
    }

    /// True if the disk is full.
    pub fn is_no_space(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        )
    }
}

/// Reads a small JSON file. `None` if it is missing, a link, a pipe, too large or malformed.
pub fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&read_bytes(path, MAX_BYTES)?).ok()
}

/// Reads the first line of a small file; `None` if it is missing or empty.
pub fn read_line(path: &Path) -> Option<String> {
    let text = String::from_utf8(read_bytes(path, MAX_BYTES)?).ok()?;
    let line = text.lines().next()?.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

/// Reads a small file whose absence has a meaning: `None` only if it does not exist.
///
/// # Errors
/// [`FileError`]
pub fn read_if_exists(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    let file = match open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(FileError::of("read", path))?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(FileError::of("read", path))?;
    match bytes.len() as u64 <= MAX_BYTES {
        true => Ok(Some(bytes)),
        false => Err(FileError::of("read", path)(io::ErrorKind::InvalidData.into())),
    }
}

/// Reads a whole file; `None` if it is not a regular file or larger than `max_bytes`.
pub fn read_bytes(path: &Path, max_bytes: u64) -> Option<Vec<u8>> {
    let file = open(path).ok()?;
    let mut bytes = Vec::new();
    file.take(max_bytes + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= max_bytes).then_some(bytes)
}

/// Opens a regular file for reading. Does not follow links and does not wait on pipes.
///
/// # Errors
/// The system's error, or one that says that it is not a regular file.
pub fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    crate::platform::refuse_links_and_pipes(&mut options);
    let file = options.open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("not a regular file")),
    }
}

/// Replaces a file by the JSON of `value`, durably.
///
/// # Errors
/// [`FileError`]; the previous file then still exists.
pub fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), FileError> {
    let encoded = serde_json::to_vec(value).map_err(io::Error::other);
    replace(path, &encoded.map_err(FileError::of("encode", path))?)
}

/// Replaces a file by one line, durably.
///
/// # Errors
/// As [`write()`].
pub fn write_line(path: &Path, line: &str) -> Result<(), FileError> {
    replace(path, format!("{line}\n").as_bytes())
}

/// Removes a file, durably.
///
/// # Errors
/// [`FileError`]
pub fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(FileError::of("remove", path)(error))
        }
        _ => sync_folder(path.parent().unwrap_or(path)),
    }
}

fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let temporary = path.with_extension("new");
    let write = || {
        // `create_new` does not follow a link that another user may have created.
        let _ = fs::remove_file(&temporary);
        let mut file = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    if let Err(error) = write() {
        // An incomplete file would use scarce space.
        let _ = fs::remove_file(&temporary);
        return Err(FileError::of("write", path)(error));
    }
    sync_folder(path.parent().unwrap_or(path))
}

/// Makes the entries of a folder durable.
///
/// # Errors
/// [`FileError`]
pub fn sync_folder(folder: &Path) -> Result<(), FileError> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(FileError::of("sync", folder))
}

/// Creates a folder that only its owner can read, if it does not exist.
///
/// # Errors
/// [`FileError`]
pub fn make_private_folder(folder: &Path) -> Result<(), FileError> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(FileError::of("create", folder)(error))
        }
        _ => Ok(()),
    }
}
