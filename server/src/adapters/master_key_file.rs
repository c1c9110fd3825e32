//! The master key file: base64 of 32 bytes.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::domain::access::credential::NoRandomness;
use crate::domain::operations::master_key::{MalformedKey, MasterKey};
use crate::fault::RotationStep;

/// The file contains no usable key.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyFileError {
    #[error("failed to read the master key file {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the master key file {} is invalid", path.display())]
    Malformed { path: PathBuf, source: MalformedKey },
    #[error("failed to write the master key file {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("failed to generate a master key")]
    Randomness(#[from] NoRandomness),
}

/// Reads a key; `None` if there is no file. Warns about a file that every user of this machine can
/// read.
///
/// # Errors
/// [`MasterKeyFileError`] if it cannot be read or has other content.
pub fn read(path: &Path) -> Result<Option<MasterKey>, MasterKeyFileError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(MasterKeyFileError::Read { path: path.to_owned(), source }),
    };
    if std::fs::metadata(path).is_ok_and(|seen| seen.permissions().mode() & 0o007 != 0) {
        let file = path.display();
        tracing::warn!(%file, "every user of this machine can read the master key file; run chmod 600 on it");
    }
    let malformed = |source| MasterKeyFileError::Malformed { path: path.to_owned(), source };
    MasterKey::from_base64(&text).map(Some).map_err(malformed)
}

/// Generates a key and writes its file with mode 0600. The file is durable before this returns,
/// because sealed secrets must never outlive the key.
///
/// # Errors
/// [`MasterKeyFileError`]. The caller has checked that there is no file, and holds the lock of the
/// data directory, so that no other process creates one.
pub fn make(path: &Path) -> Result<MasterKey, MasterKeyFileError> {
    let key = MasterKey::random()?;
    // Written under a temporary name, so that a partial key is never read.
    let draft = path.with_extension("new");
    let write = || {
        let _ = std::fs::remove_file(&draft);
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(key.to_base64().as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        std::fs::rename(&draft, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(|source| MasterKeyFileError::Write { path: path.to_owned(), source })?;
    Ok(key)
}

/// Puts the file with the next key in the place of the present one, which gets another name. If this is
/// interrupted, it can be repeated.
///
/// # Errors
/// [`MasterKeyFileError::Write`].
pub fn replace(path: &Path, next: &Path, previous: &Path) -> Result<(), MasterKeyFileError> {
    let write = || {
        // A second name first: there is no moment without a file.
        match std::fs::hard_link(path, previous) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        RotationStep::RenameNextFile.reached();
        std::fs::rename(next, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(|source| MasterKeyFileError::Write { path: path.to_owned(), source })
}
