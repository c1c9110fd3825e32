//! Replaces the master key: seals everything in the database again, in small transactions.
//!
//! Order: the new key is durable beside the old one before anything is sealed with it; every value is
//! sealed again; then the record that decides which key a server takes; then the files change their
//! names. A server that starts at any point between finds both keys, so an interrupted rotation loses
//! nothing, and running it again finishes it.

use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::master_key::{CHECK, KeyLocations, NO_TENANT, UnlockError, next_file};
use super::{audit_key, master_key};
use crate::adapters::master_key_file;
use crate::domain::secret_box::SecretBox;
use crate::services::access::mails;
use crate::services::access::people::totp;
use crate::services::commands::secret_parameters;
use crate::services::integrations::integrations;
use crate::services::integrations::webhooks::signature;
use crate::services::schedules::{hooks, secrets as schedule_secrets};
use crate::store::queries::{SealedTable, SealedValue};
use crate::store::{Store, StoreError};

/// Values of one transaction.
const SLICE: u64 = 200;

/// What a rotation did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// Values that were sealed again.
    pub sealed: u64,
    /// Values that neither key opens. They were left as they are.
    pub unreadable: u64,
    /// The file with the new key.
    pub file: PathBuf,
    /// The file with the old key.
    pub previous_file: PathBuf,
}

/// The key can't be replaced.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    #[error(
        "MUSTER_MASTER_KEY has the key, which this command can't replace; write it to a file, use the setting \
         `master_key_file` instead, and try again"
    )]
    FromEnvironment,
    #[error(transparent)]
    Unlock(#[from] UnlockError),
    #[error(transparent)]
    File(#[from] master_key_file::MasterKeyFileError),
    #[error(transparent)]
    Sealing(#[from] crate::domain::secret_box::Unsealable),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Replaces the master key, or finishes a rotation that was interrupted. The server must be stopped:
/// the store holds the lock of the database, so it can't be opened while the server runs.
///
/// # Errors
/// [`RotationError`]; run it again to finish.
pub async fn rotate(store: &Store, locations: KeyLocations) -> Result<Rotation, RotationError> {
    if locations.text.is_some() {
        return Err(RotationError::FromEnvironment);
    }
    let file = locations.file.clone().unwrap_or_else(|| locations.own_file.clone());
    // Also checks that the present key is the right one.
    master_key::unlock(store, locations).await?;
    let next = next_file(&file);
    let new = match master_key_file::read(&next)? {
        Some(key) => key,
        None => master_key_file::make(&next)?,
    };
    let old = master_key_file::read(&file)?.ok_or_else(|| UnlockError::NoFile(file.clone()))?;
    let new = SecretBox::new(&new)?;
    let both = new.clone().with_previous(&SecretBox::new(&old)?);
    let mut counts = (0, 0);
    // Whoever has the old master key and a copy of the database has the keys that sign access tokens.
    store.system().delete_token_keys().await?;
    for (table, field) in [
        (SealedTable::Commands, secret_parameters::FIELD),
        (SealedTable::WebhookKeys, signature::FIELD),
        (SealedTable::Hooks, hooks::FIELD),
        (SealedTable::Schedules, schedule_secrets::FIELD),
        (SealedTable::Integrations, integrations::FIELD),
        (SealedTable::Mails, mails::FIELD),
        (SealedTable::TotpSecrets, totp::FIELD),
    ] {
        seal_table(store, &both, table, field, &mut counts).await?;
    }
    for name in [audit_key::SETTING, CHECK] {
        seal_setting(store, &both, name, &mut counts).await?;
    }
    let previous_file = previous_file(&file);
    master_key_file::replace(&file, &next, &previous_file)?;
    Ok(Rotation { sealed: counts.0, unreadable: counts.1, file, previous_file })
}

async fn seal_table(
    store: &Store,
    both: &SecretBox,
    table: SealedTable,
    field: &'static str,
    (sealed, unreadable): &mut (u64, u64),
) -> Result<(), RotationError> {
    let mut after = Uuid::nil();
    loop {
        let values = store.system().sealed_values(table, after, SLICE).await?;
        let Some(last) = values.last() else { return Ok(()) };
        after = last.id;
        let mut changes = Vec::new();
        for value in values {
            if both.is_current(&value.sealed) {
                continue;
            }
            match both.open(value.tenant_id, field, &value.sealed) {
                Ok(plain) => {
                    let again = both.seal(value.tenant_id, field, &plain)?;
                    changes.push(SealedValue { sealed: again, ..value });
                }
                Err(_) => *unreadable += 1,
            }
        }
        *sealed += changes.len() as u64;
        store.system().replace_sealed_values(table, changes).await?;
    }
}

async fn seal_setting(
    store: &Store,
    both: &SecretBox,
    name: &'static str,
    (sealed, unreadable): &mut (u64, u64),
) -> Result<(), RotationError> {
    let Some(value) = store.system().setting(name).await? else { return Ok(()) };
    if both.is_current(&value) {
        return Ok(());
    }
    match both.open(NO_TENANT, name, &value) {
        Ok(plain) => {
            let again = both.seal(NO_TENANT, name, &plain)?;
            store.system().replace_setting(name, again).await?;
            *sealed += 1;
        }
        Err(_) => *unreadable += 1,
    }
    Ok(())
}

/// Where the old key goes: a name that no earlier rotation has used.
fn previous_file(file: &Path) -> PathBuf {
    let name = |number: u32| {
        let mut name = file.as_os_str().to_owned();
        name.push(format!(".previous-{number}"));
        PathBuf::from(name)
    };
    let mut number = 1;
    while name(number).exists() {
        number += 1;
    }
    name(number)
}
