//! Loads the master key when the server starts, or creates it if nothing was ever sealed.
//!
//! The database contains a record that only the right key can open. With another key, or without
//! one, the server does not start. Otherwise it would seal new secrets with a key that does not
//! open the existing ones.

use std::path::{Path, PathBuf};

use uuid::Uuid;
use zeroize::Zeroizing;

use crate::adapters::master_key_file;
use crate::adapters::master_key_file::MasterKeyFileError;
use crate::domain::ids::TenantId;
use crate::domain::operations::master_key::{MalformedKey, MasterKey};
use crate::domain::secret_box::{SecretBox, Unsealable};
use crate::store::{Store, StoreError};

/// The setting with the sealed record, and the field it is sealed for.
pub(super) const CHECK: &str = "master_key_check";
/// The record belongs to no tenant.
pub(super) const NO_TENANT: TenantId = TenantId(Uuid::nil());

/// Where the master key may be. The first that is set is used.
#[derive(Debug)]
pub struct KeyLocations {
    /// The key itself, from the environment.
    pub text: Option<Zeroizing<String>>,
    /// A file that the operator manages. The server reads it and never creates it.
    pub file: Option<PathBuf>,
    /// The server's own file, created at the first start.
    pub own_file: PathBuf,
}

impl KeyLocations {
    /// True if a rotation was interrupted, and the sealed values have two keys.
    pub fn is_rotating(&self) -> bool {
        next_file(self.file.as_ref().unwrap_or(&self.own_file)).exists()
    }
}

/// The server cannot open its secrets.
#[derive(Debug, thiserror::Error)]
pub enum UnlockError {
    #[error("MUSTER_MASTER_KEY is invalid")]
    Malformed(#[source] MalformedKey),
    #[error(transparent)]
    File(#[from] MasterKeyFileError),
    #[error(
        "failed to find the master key file {}; restore the file, or correct the setting `master_key_file`",
        .0.display()
    )]
    NoFile(PathBuf),
    #[error(
        "failed to find the master key file {}, which the secrets of this database were sealed with; restore the file \
         from a backup, or set MUSTER_MASTER_KEY",
        .0.display()
    )]
    Lost(PathBuf),
    #[error(
        "failed to open the secrets of this database with the master key from {0}, because they were sealed with \
         another key; use that key"
    )]
    Wrong(String),
    #[error(transparent)]
    Sealing(#[from] Unsealable),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Loads the master key and checks it against the database. At the first start it creates the key
/// if none is configured, and stores the record.
///
/// # Errors
/// [`UnlockError`]; nothing was created or changed then.
pub async fn unlock(store: &Store, locations: KeyLocations) -> Result<SecretBox, UnlockError> {
    let record = store.system().setting(CHECK).await?;
    let next = match &locations.text {
        Some(_) => None,
        None => {
            let file = locations.file.as_ref().unwrap_or(&locations.own_file);
            master_key_file::read(&next_file(file))?
        }
    };
    let (key, origin) = find(locations, record.is_some())?;
    let secret_box = SecretBox::new(&key)?;
    match record {
        Some(sealed) => {
            let opens = |candidate: &SecretBox| candidate.open(NO_TENANT, CHECK, &sealed).is_ok();
            let Some(next) = next else {
                return if opens(&secret_box) {
                    Ok(secret_box)
                } else {
                    Err(UnlockError::Wrong(origin))
                };
            };
            // A rotation was interrupted. Whichever key the record names seals, and both open.
            let next = SecretBox::new(&next)?;
            tracing::warn!(
                "the rotation of the master key was interrupted; run `muster-server rotate-master-key` again"
            );
            match (opens(&secret_box), opens(&next)) {
                (true, _) => Ok(secret_box.with_previous(&next)),
                (false, true) => Ok(next.with_previous(&secret_box)),
                (false, false) => Err(UnlockError::Wrong(origin)),
            }
        }
        None => {
            let sealed = secret_box.seal(NO_TENANT, CHECK, CHECK.as_bytes())?;
            store.system().create_setting(CHECK, sealed).await?;
            Ok(secret_box)
        }
    }
}

/// The file with the next key, while a rotation is not finished.
pub(super) fn next_file(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".next");
    PathBuf::from(name)
}

/// The key, and where it was found, for messages.
fn find(locations: KeyLocations, has_record: bool) -> Result<(MasterKey, String), UnlockError> {
    if let Some(text) = locations.text {
        let key = MasterKey::from_base64(&text).map_err(UnlockError::Malformed)?;
        return Ok((key, "MUSTER_MASTER_KEY".to_owned()));
    }
    if let Some(path) = locations.file {
        let key = master_key_file::read(&path)?;
        let origin = path.display().to_string();
        return Ok((key.ok_or(UnlockError::NoFile(path))?, origin));
    }
    let path = locations.own_file;
    let key = match master_key_file::read(&path)? {
        Some(key) => key,
        None if has_record => return Err(UnlockError::Lost(path)),
        None => {
            let key = master_key_file::make(&path)?;
            let file = path.display();
            tracing::info!(%file, "created the master key; back it up, because without it the secrets in a backup are lost");
            key
        }
    };
    Ok((key, path.display().to_string()))
}
