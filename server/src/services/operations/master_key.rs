//! The master key at the server's start: found, or made where nothing was ever sealed.
//!
//! A record that only the right key opens lies in the database. With another key, or without one,
//! the server does not start: it would seal with a key that the rest of its secrets don't have.

use std::path::PathBuf;

use uuid::Uuid;
use zeroize::Zeroizing;

use crate::adapters::master_key_file;
use crate::adapters::master_key_file::MasterKeyFileError;
use crate::domain::ids::TenantId;
use crate::domain::operations::master_key::{MalformedKey, MasterKey};
use crate::domain::secret_box::{SecretBox, Unsealable};
use crate::store::{Store, StoreError};

/// The setting with the sealed record, and the field it is sealed for.
const CHECK: &str = "master_key_check";
/// It belongs to no tenant.
const NOBODY: TenantId = TenantId(Uuid::nil());

/// Where the master key may be. The first that is set counts.
#[derive(Debug)]
pub struct KeyPlaces {
    /// The key itself, from the environment.
    pub text: Option<Zeroizing<String>>,
    /// A file that somebody else looks after: it is read and never made.
    pub file: Option<PathBuf>,
    /// The server's own file, made at the first start.
    pub own_file: PathBuf,
}

/// Why the server can't have its secrets.
#[derive(Debug, thiserror::Error)]
pub enum UnlockError {
    #[error("use MUSTER_MASTER_KEY: {0}")]
    Malformed(#[source] MalformedKey),
    #[error(transparent)]
    File(#[from] MasterKeyFileError),
    #[error(
        "find the master key in {}: put the file back, or correct the setting `master_key_file`",
        .0.display()
    )]
    NoFile(PathBuf),
    #[error(
        "find the master key in {}: this database has secrets sealed with it; put the file back \
         from a backup, or give the key in MUSTER_MASTER_KEY",
        .0.display()
    )]
    Lost(PathBuf),
    #[error(
        "open the secrets of this database with the master key from {0}: they were sealed with \
         another one; give that one"
    )]
    Wrong(String),
    #[error(transparent)]
    Sealing(#[from] Unsealable),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Finds the master key and checks it against the database; the first time it is made, if nobody
/// gives one, and noted.
///
/// # Errors
/// [`UnlockError`]; nothing is made or changed then.
pub async fn unlock(store: &Store, places: KeyPlaces) -> Result<SecretBox, UnlockError> {
    let noted = store.system().setting(CHECK).await?;
    let (key, origin) = find(places, noted.is_some())?;
    let secret_box = SecretBox::new(&key)?;
    match noted {
        Some(sealed) => match secret_box.open(NOBODY, CHECK, &sealed) {
            Ok(_) => Ok(secret_box),
            Err(_) => Err(UnlockError::Wrong(origin)),
        },
        None => {
            let sealed = secret_box.seal(NOBODY, CHECK, CHECK.as_bytes())?;
            store.system().create_setting(CHECK, sealed).await?;
            Ok(secret_box)
        }
    }
}

/// The key, and where it was found, for people.
fn find(places: KeyPlaces, is_noted: bool) -> Result<(MasterKey, String), UnlockError> {
    if let Some(text) = places.text {
        let key = MasterKey::from_base64(&text).map_err(UnlockError::Malformed)?;
        return Ok((key, "MUSTER_MASTER_KEY".to_owned()));
    }
    if let Some(path) = places.file {
        let key = master_key_file::read(&path)?;
        let origin = path.display().to_string();
        return Ok((key.ok_or(UnlockError::NoFile(path))?, origin));
    }
    let path = places.own_file;
    let key = match master_key_file::read(&path)? {
        Some(key) => key,
        None if is_noted => return Err(UnlockError::Lost(path)),
        None => {
            let key = master_key_file::make(&path)?;
            let file = path.display();
            tracing::info!(%file, "made the master key; without a copy of it a backup's secrets are lost");
            key
        }
    };
    Ok((key, path.display().to_string()))
}
