//! The file of the master key: base64 of 32 bytes. Knows no database.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::domain::access::credential::NoRandomness;
use crate::domain::operations::master_key::{MalformedKey, MasterKey};

/// Why a file gives no key.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyFileError {
    #[error("read the master key in {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("use the master key in {}: {source}", path.display())]
    Malformed { path: PathBuf, source: MalformedKey },
    #[error("write the master key to {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("make a master key: {0}")]
    Randomness(#[from] NoRandomness),
}

/// Reads a key; `None` if there is no file. Warns of one that every user of this machine may read.
///
/// # Errors
/// [`MasterKeyFileError`] if it can't be read or holds something else.
pub fn read(path: &Path) -> Result<Option<MasterKey>, MasterKeyFileError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(MasterKeyFileError::Read { path: path.to_owned(), source }),
    };
    if std::fs::metadata(path).is_ok_and(|seen| seen.permissions().mode() & 0o007 != 0) {
        let file = path.display();
        tracing::warn!(%file, "every user of this machine may read the master key; chmod 600 it");
    }
    let malformed = |source| MasterKeyFileError::Malformed { path: path.to_owned(), source };
    MasterKey::from_base64(&text).map(Some).map_err(malformed)
}

/// Makes a key and the file that keeps it, 0600. Durable before it is given back: what is sealed
/// with a key must not outlive it.
///
/// # Errors
/// [`MasterKeyFileError`]. Whoever calls this has seen that there is no file, and holds the lock of
/// the data directory: nobody else makes one meanwhile.
pub fn make(path: &Path) -> Result<MasterKey, MasterKeyFileError> {
    let key = MasterKey::random()?;
    // Under another name first: half a key must never be taken for one.
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
