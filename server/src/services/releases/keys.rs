//! Changes of the key that signs releases. A statement by the old key names the new one, and hosts
//! download it.

use muster_protocol::release::{KeyChange, MAX_KEY_CHANGES, PublicKey, is_trusted_key};
use serde_json::json;
use uuid::Uuid;

use super::Releases;
use crate::domain::access::principal::Scope;
use crate::services::access::caller::{Caller, Subject};
use crate::services::error::{Result, ServiceError};
use crate::store::StoreError;
use crate::store::entities::releases::release_key_change;

/// A statement as the caller sent it: keys and signature as text.
#[derive(Debug, Clone)]
pub struct NewKeyChange {
    pub old: String,
    pub new: String,
    pub signature: String,
}

impl Releases {
    /// Stores the current key's statement that another key signs releases from now on. Repeatable.
    /// Returns the fingerprints of both keys.
    ///
    /// # Errors
    /// 422 `invalid_key_change`; 409 `untrusted_release_key` if the old key is not the current one;
    /// `key_changed` if it was replaced by another key before, or the limit of 16 changes is
    /// reached.
    pub async fn change_key(&self, caller: &Caller, new: NewKeyChange) -> Result<(String, String)> {
        caller.require(Scope::ReleasesManage)?;
        let invalid = || {
            ServiceError::Invalid {
            code: "invalid_key_change",
            detail: "the statement is malformed or not signed by its old key; create it with `muster release rotate-key`"
                .into(),
        }
        };
        let key = |text: String| PublicKey::try_from(text).map_err(|_| invalid());
        let change = KeyChange { old: key(new.old)?, new: key(new.new)?, signature: new.signature };
        if !change.is_valid() || change.old == change.new {
            return Err(invalid());
        }
        let _lock = self.change_lock.lock().await;
        let fingerprints = (change.old.fingerprint(), change.new.fingerprint());
        let known = self.key_changes().await?;
        if known.iter().any(|other| other.old == change.old && other.new == change.new) {
            return Ok(fingerprints);
        }
        self.check_is_in_use(&change, &known).await?;
        let now = self.clock.now();
        let row = release_key_change::Model {
            id: Uuid::now_v7(),
            old_key: change.old.to_string(),
            new_key: change.new.to_string(),
            signature: change.signature,
            created_at: now,
            created_by: caller.principal.id,
        };
        let detail = json!({"old": fingerprints.0, "new": fingerprints.1});
        let subject = Subject { kind: "release_key_change", id: row.id };
        let audit = caller.audit("release.change_key", subject, &detail, now);
        match self.store.system().add_release_key_change(row, MAX_KEY_CHANGES, audit).await {
            Err(StoreError::Refused(_)) => Err(ServiceError::Conflict {
                code: "key_changed",
                detail: format!(
                    "one of these keys already has a statement, or the limit of {MAX_KEY_CHANGES} statements is reached"
                ),
            }),
            stored => Ok(stored.map(|()| fingerprints)?),
        }
    }

    /// Every statement, oldest first.
    pub async fn key_changes(&self) -> Result<Vec<KeyChange>> {
        let rows = self.store.system().release_key_changes().await?;
        let read = |row: release_key_change::Model| {
            Some(KeyChange {
                old: row.old_key.try_into().ok()?,
                new: row.new_key.try_into().ok()?,
                signature: row.signature,
            })
        };
        // The statements were validated before they were stored.
        Ok(rows.into_iter().filter_map(read).collect())
    }

    async fn check_is_in_use(&self, change: &KeyChange, known: &[KeyChange]) -> Result<()> {
        let last = self.store.system().last_published_release().await?;
        let in_use = last.and_then(|row| PublicKey::try_from(row.release_key).ok());
        let is_in_use =
            in_use.is_some_and(|key| is_trusted_key(&key.fingerprint(), known, change.old));
        match is_in_use {
            true => Ok(()),
            false => Err(ServiceError::Conflict {
                code: "untrusted_release_key",
                detail: "the old key of this statement does not sign this server's releases".into(),
            }),
        }
    }
}
