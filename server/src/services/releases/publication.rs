//! Publishes and withdraws releases.

use std::sync::Arc;

use muster_protocol::release::{PublicKey, Version, is_trusted_key};
use serde_json::json;

use super::{Release, Releases, UNKNOWN, UNWRITABLE, blocking, read, subject};
use crate::domain::access::principal::Scope;
use crate::services::access::caller::Caller;
use crate::services::error::{Result, ServiceError};
use crate::store::entities::releases::release;
use crate::store::queries::Publication;

impl Releases {
    /// Publishes a release, so that hosts may install it; also a withdrawn one. Repeatable.
    ///
    /// # Errors
    /// 409 `incomplete_release` if a program is missing; `untrusted_release_key` if no key changes
    /// lead from the key of the last published release to this one's; 422 `invalid_release`.
    pub async fn publish(&self, caller: &Caller, version: &Version) -> Result<Release> {
        caller.require(Scope::ReleasesManage)?;
        let _lock = self.change_lock.lock().await;
        let system = self.store.system();
        let row = system.release(&version.to_string()).await?.ok_or(UNKNOWN)?;
        if row.is_open() {
            return Release::read(row);
        }
        let (descriptor, key) = read(&row.descriptor, &row.signature)?;
        let last = system.last_published_release().await?;
        self.check_key(key, last.as_ref()).await?;
        let programs = self.look_at(&descriptor).await?;
        if let Some(missing) = programs.iter().find(|program| !program.is_uploaded) {
            let (name, platform) = (missing.file.name.file_name(), missing.platform);
            return Err(ServiceError::Conflict {
                code: "incomplete_release",
                detail: format!(
                    "{name} for {platform} is missing or incomplete; upload it, then publish"
                ),
            });
        }
        let now = self.clock.now();
        let detail = json!({"version": row.version, "key": key.fingerprint()});
        let audit = caller.audit("release.publish", subject(row.id), &detail, now);
        // The order of publications must hold even if the clock was set back.
        let before = last.as_ref().and_then(|row| row.published_at);
        let at = before.map_or(now, |before| now.max(before.plus_ms(1)));
        let publication =
            Publication { at, by: caller.principal.id, after: last.map(|row| row.id) };
        let row = system.publish_release(row, publication, audit).await;
        // Also after an error, because the change may have been committed.
        self.catalog.forget().await;
        Release::read(row?.ok_or_else(|| ServiceError::Conflict {
            code: "release_changed",
            detail:
                "the release was changed at the same time; check it and publish it again".into(),
        })?)
    }

    /// Withdraws a release: hosts no longer install it, and those that run it keep running it.
    /// Repeatable. The programs of a release that was never published are deleted. A published
    /// release keeps them, because it can be published again.
    pub async fn withdraw(&self, caller: &Caller, version: &Version) -> Result<Release> {
        caller.require(Scope::ReleasesManage)?;
        let _lock = self.change_lock.lock().await;
        let system = self.store.system();
        let row = system.release(&version.to_string()).await?.ok_or(UNKNOWN)?;
        let now = self.clock.now();
        let detail = json!({"version": row.version});
        let audit = caller.audit("release.withdraw", subject(row.id), &detail, now);
        let row = system.withdraw_release(row.version, now, audit).await;
        self.catalog.forget().await;
        let row = row?.ok_or(UNKNOWN)?;
        if row.is_dropped() {
            let (files, version) = (Arc::clone(&self.files), version.clone());
            blocking(move || files.remove(&version)).await?;
        }
        Release::read(row)
    }

    /// Hosts that accepted the last release must accept this one too.
    async fn check_key(&self, key: PublicKey, last: Option<&release::Model>) -> Result<()> {
        let Some(last) = last else { return Ok(()) };
        let known = PublicKey::try_from(last.release_key.clone()).map_err(|_| UNWRITABLE)?;
        let changes = self.key_changes().await?;
        if is_trusted_key(&known.fingerprint(), &changes, key) {
            return Ok(());
        }
        Err(ServiceError::Conflict {
            code: "untrusted_release_key",
            detail: format!(
                "the release is signed by the key {}, but release {} was signed by {}, and no key change connects them; sign it with that key, or change the key with `muster release rotate-key`",
                key.fingerprint(),
                last.version,
                known.fingerprint()
            ),
        })
    }
}
