//! Which releases hosts may have: published, and withdrawn again.

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
    /// Lets hosts have a release, also one that was withdrawn. Repeatable.
    ///
    /// # Errors
    /// 409 `incomplete_release` if a program is missing, `untrusted_release_key` if nothing leads to its
    /// key from that of the release before; 422 `invalid_release`.
    pub async fn publish(&self, caller: &Caller, version: &Version) -> Result<Release> {
        caller.require(Scope::ReleasesManage)?;
        let _turn = self.turn.lock().await;
        let system = self.store.system();
        let row = system.release(&version.to_string()).await?.ok_or(UNKNOWN)?;
        if row.is_open() {
            return Release::read(row);
        }
        let (manifest, key) = read(&row.manifest, &row.signature)?;
        let last = system.last_published_release().await?;
        self.check_key(key, last.as_ref()).await?;
        let programs = self.look_at(&manifest).await?;
        if let Some(missing) = programs.iter().find(|program| !program.is_there) {
            let (name, platform) = (missing.file.name.file_name(), missing.platform);
            return Err(ServiceError::Conflict {
                code: "incomplete_release",
                detail: format!(
                    "{name} for {platform} is not here, or not whole; upload it, then publish"
                ),
            });
        }
        let now = self.clock.now();
        let detail = json!({"version": row.version, "key": key.fingerprint()});
        let audit = caller.audit("release.publish", subject(row.id), &detail, now);
        // A clock that was set back does not make an older one the last.
        let before = last.as_ref().and_then(|row| row.published_at);
        let at = before.map_or(now, |before| now.max(before.plus_ms(1)));
        let publication =
            Publication { at, by: caller.principal.id, after: last.map(|row| row.id) };
        let row = system.publish_release(row, publication, audit).await;
        // Also where it can't be told whether it was.
        self.catalog.forget().await;
        Release::read(row?.ok_or_else(|| ServiceError::Conflict {
            code: "release_changed",
            detail: "the release has changed meanwhile; look at it and publish it again".into(),
        })?)
    }

    /// Lets hosts have a release no longer; those that run it go on. Repeatable. The programs of one
    /// that was never published go at once; a published one keeps them, since it can be published again.
    pub async fn withdraw(&self, caller: &Caller, version: &Version) -> Result<Release> {
        caller.require(Scope::ReleasesManage)?;
        let _turn = self.turn.lock().await;
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

    /// Hosts that took the release before have to take this one as well.
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
                "it is signed by the key {}, and release {} was by {}: no statement leads from that key to this one; sign it with that key, or make a statement with `muster release rotate-key`",
                key.fingerprint(),
                last.version,
                known.fingerprint()
            ),
        })
    }
}
