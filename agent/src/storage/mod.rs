//! Files that survive a crash: sealed against incomplete writes, and synced before anything depends
//! on them.
//!
//! Knows bytes and paths, not the meaning of records.

pub mod layout;

use data_encoding::HEXLOWER;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt as _};
use std::path::{Path, PathBuf};

use ring::digest;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::platform;

/// The version of the record format.
pub const FORMAT_VERSION: u32 = 1;

/// Why a file could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("failed to {action} {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to read {}: the record is incomplete or damaged", path.display())]
    Damaged { path: PathBuf },
    #[error("failed to read {}: format version {version} is newer than this agent", path.display())]
    Version { path: PathBuf, version: u32 },
}

impl StorageError {
    /// Adds the action and the path to the system's error.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    /// True if the disk or the quota is full.
    pub fn is_no_space(&self) -> bool {
        matches!(self, Self::Io { source, .. } if matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        ))
    }
}

#[derive(Serialize, serde::Deserialize)]
struct Versioned<T> {
    version: u32,
    #[serde(flatten)]
    record: T,
}

#[derive(serde::Deserialize)]
struct VersionOnly {
    version: u32,
}

/// The bytes of a record: a line of JSON, then a line with its SHA-256.
pub fn seal<T: Serialize>(record: &T) -> Vec<u8> {
    let versioned = Versioned { version: FORMAT_VERSION, record };
    // Records are plain structs with string keys, so serialising can't fail.
    let mut bytes = serde_json::to_vec(&versioned).unwrap_or_default();
    let seal = seal_of(&bytes);
    bytes.push(b'\n');
    bytes.extend_from_slice(seal.as_bytes());
    bytes.push(b'\n');
    bytes
}

/// The seal of a record's JSON line: its SHA-256 in hex.
pub fn seal_of(json: &[u8]) -> String {
    HEXLOWER.encode(digest::digest(&digest::SHA256, json).as_ref())
}

/// Reads a record; everything behind its seal is padding.
///
/// # Errors
/// [`StorageError::Damaged`] if the seal does not match, [`StorageError::Version`] if the record is
/// newer.
pub fn unseal<T: DeserializeOwned>(bytes: &[u8], path: &Path) -> Result<T, StorageError> {
    let damaged = || StorageError::Damaged { path: path.to_owned() };
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let (Some(json), Some(seal)) = (lines.next(), lines.next()) else { return Err(damaged()) };
    if seal_of(json).as_bytes() != seal {
        return Err(damaged());
    }
    let VersionOnly { version } = serde_json::from_slice(json).map_err(|_| damaged())?;
    if version > FORMAT_VERSION {
        return Err(StorageError::Version { path: path.to_owned(), version });
    }
    let versioned: Versioned<T> = serde_json::from_slice(json).map_err(|_| damaged())?;
    Ok(versioned.record)
}

/// Reads a sealed file; `None` if it does not exist.
///
/// # Errors
/// As [`unseal`], and the system's error.
pub fn read_sealed<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StorageError> {
    match fs::read(path) {
        Ok(bytes) => unseal(&bytes, path).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StorageError::io("read", path)(error)),
    }
}

/// Reads a sealed file that may have been written incompletely, which counts as missing. A file
/// that exists and can't be read is an error, and so is one of a later version.
///
/// # Errors
/// [`StorageError::Version`], and the system's error.
pub fn read_whole<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StorageError> {
    match read_sealed(path) {
        Err(StorageError::Damaged { .. }) => Ok(None),
        read => read,
    }
}

/// True if the path exists. A failed check is an error, never "false".
///
/// # Errors
/// The system's error.
pub fn exists(path: &Path) -> Result<bool, StorageError> {
    path.try_exists().map_err(StorageError::io("check", path))
}

/// A new file with mode 0600 that is not durable yet. If several files are written before the first
/// is synced, they share the cost of one sync on most file systems.
#[derive(Debug)]
pub struct UnsyncedFile {
    file: File,
    path: PathBuf,
}

impl UnsyncedFile {
    /// Writes a new file.
    ///
    /// # Errors
    /// `AlreadyExists` if the name is taken.
    pub fn create(path: PathBuf, bytes: &[u8]) -> Result<Self, StorageError> {
        let write = || {
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(0o600).open(&path)?;
            file.write_all(bytes)?;
            Ok(file)
        };
        match write() {
            Ok(file) => Ok(Self { file, path }),
            Err(error) => Err(StorageError::io("create", &path)(error)),
        }
    }

    /// Makes the content durable; the name is durable after [`sync_directory`].
    ///
    /// # Errors
    /// The system's error; the content may be lost then.
    pub fn sync(self) -> Result<(), StorageError> {
        self.file.sync_data().map_err(StorageError::io("sync", &self.path))
    }
}

/// Creates a file of zeros with mode 0600 that reserves its space. After a power loss it may be
/// missing or empty; its name is durable after [`sync_directory`].
///
/// # Errors
/// `AlreadyExists` if the name is taken.
pub fn reserve(path: &Path, bytes: usize) -> Result<(), StorageError> {
    let file = UnsyncedFile::create(path.to_owned(), &[])?;
    if platform::allocate(&file.file, bytes as u64).is_ok() {
        return Ok(());
    }
    // Not every file system can allocate; written zeros reserve the space too.
    let write = || (&file.file).write_all(&vec![0; bytes]);
    write().map_err(StorageError::io("write", path))?;
    file.sync()
}

/// Creates a file with mode 0600 and syncs it. Its name is durable after [`sync_directory`].
///
/// # Errors
/// `AlreadyExists` if the name is taken.
pub fn create_synced(path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
    UnsyncedFile::create(path.to_owned(), bytes)?.sync()
}

/// Replaces a file atomically, with mode 0600, and syncs it and its name.
///
/// # Errors
/// The system's error; the old file is then unchanged.
pub fn replace_synced(path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let fresh = path.with_file_name(name);
    let _ = fs::remove_file(&fresh);
    create_synced(&fresh, bytes)
        .and_then(|()| fs::rename(&fresh, path).map_err(StorageError::io("replace", path)))
        .inspect_err(|_| {
            // An incomplete file must not take the last space of a full disk.
            let _ = fs::remove_file(&fresh);
        })?;
    sync_directory(path.parent().unwrap_or(Path::new(".")))
}

/// Removes a file durably; a missing one is no error.
///
/// # Errors
/// The system's error.
pub fn remove(path: &Path) -> Result<(), StorageError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StorageError::io("remove", path)(error))
        }
        _ => sync_directory(path.parent().unwrap_or(Path::new("."))),
    }
}

/// Makes the names in a directory durable.
///
/// # Errors
/// The system's error.
pub fn sync_directory(path: &Path) -> Result<(), StorageError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(StorageError::io("sync", path))
}

/// Creates a directory, and its parents, that only its owner may enter; an existing one is kept.
///
/// # Errors
/// The system's error.
pub fn ensure_private_directory(path: &Path) -> Result<(), StorageError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(StorageError::io("create", path))
}

/// Adds bits to the mode of a file or directory.
///
/// # Errors
/// The system's error.
pub fn add_permissions(path: &Path, bits: u32) -> Result<(), StorageError> {
    let add = || {
        let before = fs::metadata(path)?.permissions().mode();
        if before & bits == bits {
            return Ok(());
        }
        fs::set_permissions(path, fs::Permissions::from_mode(before | bits))
    };
    add().map_err(StorageError::io("grant other users access to", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn a_record_cut_off_anywhere_is_damaged_and_never_half_read(
            record in prop::collection::btree_map("[a-z]{1,5}", "\\PC{0,10}", 0..5),
            cut in any::<prop::sample::Index>(),
        ) {
            let path = Path::new("record");
            let bytes = seal(&record);
            let mut padded = bytes.clone();
            padded.resize(bytes.len() + 100, 0);
            prop_assert_eq!(unseal::<BTreeMap<String, String>>(&padded, path).ok(), Some(record));
            // The last byte is the newline behind the seal; without it the record is still
            // complete.
            let kept = cut.index(bytes.len() - 1);
            let is_damaged = matches!(
                unseal::<BTreeMap<String, String>>(&bytes[..kept], path),
                Err(StorageError::Damaged { .. })
            );
            prop_assert!(is_damaged);
        }
    }

    #[test]
    fn a_full_disk_is_distinguished_from_other_errors() {
        let write = || {
            let mut full = OpenOptions::new().write(true).open("/dev/full")?;
            full.write_all(b"x")
        };
        let error = write().expect_err("it is always full");
        assert!(StorageError::io("write", Path::new("/dev/full"))(error).is_no_space());
        let error = io::ErrorKind::PermissionDenied.into();
        assert!(!StorageError::io("write", Path::new("/dev/full"))(error).is_no_space());
    }

    #[test]
    fn a_record_in_a_newer_format_version_is_rejected() {
        let json = br#"{"version":2}"#;
        let seal = HEXLOWER.encode(digest::digest(&digest::SHA256, json).as_ref());
        let bytes = [json.as_slice(), b"\n", seal.as_bytes()].concat();
        let read = unseal::<BTreeMap<String, String>>(&bytes, Path::new("record"));
        assert!(matches!(read, Err(StorageError::Version { version: 2, .. })), "{read:?}");
    }
}
