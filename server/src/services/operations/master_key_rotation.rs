//! Replaces the master key: seals everything in the database again, in small transactions, also while the
//! server runs.
//!
//! Order: the new key is durable beside the old one before anything is sealed with it; from then on everything
//! new is sealed with it, and both open; every value is sealed again; then the record that decides which key a
//! server takes; then the files change their names. A server that starts at any point between finds both keys,
//! so an interrupted rotation loses nothing, and running it again finishes it.

use std::path::{Path, PathBuf};

use serde_json::json;
use uuid::Uuid;

use super::audit_key;
use super::master_key::{CHECK, NO_TENANT, UnlockError, next_file};
use crate::adapters::master_key_file;
use crate::domain::access::principal::ActorKind;
use crate::domain::ids::PrincipalId;
use crate::domain::secret_box::SecretBox;
use crate::domain::time::Clock;
use crate::fault::RotationStep;
use crate::services::access::caller::{AuditAction, Subject};
use crate::services::access::mails;
use crate::services::access::people::access_tokens::{self, AccessTokens};
use crate::services::access::people::totp;
use crate::services::certificates::authority;
use crate::services::commands::secret_parameters;
use crate::services::integrations::integrations;
use crate::services::integrations::webhooks::signature;
use crate::services::schedules::{hooks, secrets as schedule_secrets};
use crate::store::entities::access::audit_entry;
use crate::store::queries::{ResealedValue, SealedTable};
use crate::store::{Store, StoreError};

/// Values of one transaction.
const SLICE: u64 = 200;
/// Most passes over the database until one finds nothing to seal again.
const MAX_PASSES: u32 = 16;
/// What is sealed, and for which field.
const TABLES: [(SealedTable, &str); 8] = [
    (SealedTable::Commands, secret_parameters::FIELD),
    (SealedTable::WebhookKeys, signature::FIELD),
    (SealedTable::Hooks, hooks::FIELD),
    (SealedTable::Schedules, schedule_secrets::FIELD),
    (SealedTable::Integrations, integrations::FIELD),
    (SealedTable::Mails, mails::FIELD),
    (SealedTable::TotpSecrets, totp::FIELD),
    (SealedTable::TokenKeys, access_tokens::FIELD),
];

/// What a rotation did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterKeyRotation {
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

/// Replaces the master key, or finishes a rotation that was interrupted. `file` has the present key, and
/// `secret_box` is what the server seals and opens with.
///
/// # Errors
/// [`RotationError`]; run it again to finish.
pub(super) async fn rotate(
    store: &Store,
    secret_box: &SecretBox,
    tokens: Option<&AccessTokens>,
    file: &Path,
    clock: &Clock,
) -> Result<MasterKeyRotation, RotationError> {
    let next = next_file(file);
    let new = match master_key_file::read(&next)? {
        Some(key) => key,
        None => {
            // What an earlier rotation left must not need a third key.
            seal_again(store, secret_box).await?;
            master_key_file::make(&next)?
        }
    };
    let old = master_key_file::read(file)?.ok_or_else(|| UnlockError::NoFile(file.to_owned()))?;
    let new = SecretBox::new(&new)?;
    let both = new.clone().with_previous(&SecretBox::new(&old)?);
    let record = store.system().setting(CHECK).await?.unwrap_or_default();
    if both.open(NO_TENANT, CHECK, &record).is_err() {
        return Err(UnlockError::Wrong(file.display().to_string()).into());
    }
    RotationStep::DeleteTokenKeys.reached();
    secret_box.replace_key(&new);
    // A holder of the old master key and of a copy of the database has the keys that sign access tokens.
    store.system().delete_token_keys().await?;
    if let Some(tokens) = tokens {
        tokens.forget();
    }
    RotationStep::SealValues.reached();
    let (mut sealed, mut unreadable) = (0, 0);
    for _ in 0..MAX_PASSES {
        // What was sealed with the old key just before is stored now, and found by the next pass.
        store.system().flush().await?;
        let counts = seal_again(store, secret_box).await?;
        (sealed, unreadable) = (sealed + counts.0, counts.1);
        if counts.0 == 0 {
            break;
        }
    }
    let mut counts = (sealed, unreadable);
    RotationStep::SealSettings.reached();
    for name in [audit_key::SETTING, audit_key::PREVIOUS, authority::SETTING] {
        seal_setting(store, secret_box, name, &mut counts).await?;
    }
    let detail = json!({ "sealed": counts.0, "unreadable": counts.1 });
    RotationStep::WriteAuditEntry.reached();
    store.system().append_audit(vec![entry(&detail, clock)]).await?;
    RotationStep::SealRecord.reached();
    seal_setting(store, secret_box, CHECK, &mut counts).await?;
    let previous_file = previous_file(file);
    RotationStep::LinkPreviousFile.reached();
    master_key_file::replace(file, &next, &previous_file)?;
    let file = file.to_owned();
    Ok(MasterKeyRotation { sealed: counts.0, unreadable: counts.1, file, previous_file })
}

/// One pass over everything that is sealed. Returns how much was sealed again, and how much no key opens.
pub(super) async fn seal_again(
    store: &Store,
    secret_box: &SecretBox,
) -> Result<(u64, u64), RotationError> {
    let mut counts = (0, 0);
    for (table, field) in TABLES {
        seal_table(store, secret_box, table, field, &mut counts).await?;
    }
    Ok(counts)
}

/// For the log of the server itself.
fn entry(detail: &serde_json::Value, clock: &Clock) -> audit_entry::Model {
    let action = AuditAction {
        tenant_id: NO_TENANT,
        action: "master_key.rotate",
        subject: Subject { kind: "master_key", id: Uuid::nil() },
        detail,
        at: clock.now(),
    };
    let actor_id = Some(PrincipalId::OPERATOR.0);
    audit_entry::Model { actor_kind: ActorKind::Operator, actor_id, ..action.by_system() }
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
                    changes.push(ResealedValue {
                        id: value.id,
                        previous: value.sealed,
                        sealed: again,
                    });
                }
                Err(_) => *unreadable += 1,
            }
        }
        let count = changes.len() as u64;
        *sealed += count;
        store.system().replace_sealed_values(table, changes).await?;
        if count > 0 {
            RotationStep::SealMoreValues.reached();
        }
    }
}

async fn seal_setting(
    store: &Store,
    both: &SecretBox,
    name: &'static str,
    (sealed, unreadable): &mut (u64, u64),
) -> Result<(), RotationError> {
    loop {
        let Some(value) = store.system().setting(name).await? else { return Ok(()) };
        if both.is_current(&value) {
            return Ok(());
        }
        let Ok(plain) = both.open(NO_TENANT, name, &value) else {
            *unreadable += 1;
            return Ok(());
        };
        let again = both.seal(NO_TENANT, name, &plain)?;
        // What was stored meanwhile, such as another authority, stays.
        if store.system().replace_setting(name, (value, again)).await? {
            *sealed += 1;
            return Ok(());
        }
    }
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
