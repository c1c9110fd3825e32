//! Receives the programs of releases.

use std::sync::Arc;

use bytes::Bytes;
use muster_protocol::release::{Platform, Program, ProgramFile, Version};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use super::{Release, Releases, UNKNOWN, UNWRITABLE, subject};
use crate::adapters::release_files::{IncomingProgram, ReleaseStoreError};
use crate::domain::access::principal::Scope;
use crate::domain::ids::ReleaseId;
use crate::services::access::caller::Caller;
use crate::services::error::{Result, ServiceError};
use crate::store::writer::AppendAudit;
use muster_protocol::error_chain;

/// Bytes that are collected before they are written.
const WRITTEN_AT_ONCE: usize = 256 * 1024;

/// A program that is being uploaded. Dropping it before the end leaves no file.
pub struct Upload {
    releases: Releases,
    /// The release when the upload started. Another draft of the same version has another id.
    release_id: ReleaseId,
    version: Version,
    caller: Caller,
    /// What the audit entry says.
    detail: Value,
    /// `None` while a write is in progress.
    receiving: Option<Box<IncomingProgram>>,
    pending: Vec<u8>,
}

impl Releases {
    /// Starts the upload of a program. `None` if the complete file is on the server already.
    ///
    /// # Errors
    /// 404 if the release's descriptor has no such program; 409 `release_changed` if the release was
    /// withdrawn before it was published; 503 `no_space`.
    pub async fn upload(
        &self,
        caller: &Caller,
        version: &Version,
        platform: Platform,
        program: Program,
    ) -> Result<Option<Upload>> {
        caller.require(Scope::ReleasesManage)?;
        let row = self.store.system().release(&version.to_string()).await?.ok_or(UNKNOWN)?;
        if row.is_dropped() {
            return Err(changed());
        }
        let Release { row, descriptor, .. } = Release::read(row)?;
        let files = descriptor.files(platform).unwrap_or_default();
        let expected: ProgramFile = files
            .iter()
            .find(|file| file.name == program)
            .cloned()
            .ok_or(ServiceError::NotFound("program in this release"))?;
        let detail = json!({"version": row.version, "platform": platform.to_string(),
            "program": program.file_name(), "sha256": expected.sha256});
        let (files, of) = (Arc::clone(&self.files), version.clone());
        let begin = move || match files.has(&of, platform, &expected) {
            true => Ok(None),
            false => files.receive(&of, platform, &expected).map(|started| Some(Box::new(started))),
        };
        let started = spawn_blocking(begin).await.map_err(|_| UNWRITABLE)?.map_err(refused)?;
        Ok(started.map(|receiving| Upload {
            releases: self.clone(),
            release_id: row.id,
            version: version.clone(),
            caller: caller.clone(),
            detail,
            receiving: Some(receiving),
            pending: Vec::new(),
        }))
    }
}

impl Upload {
    /// Adds received bytes.
    ///
    /// # Errors
    /// 422 `wrong_size` if the file is larger than the descriptor says.
    pub async fn write(&mut self, bytes: &Bytes) -> Result<()> {
        self.pending.extend_from_slice(bytes);
        match self.pending.len() {
            0..WRITTEN_AT_ONCE => Ok(()),
            _ => self.flush().await,
        }
    }

    /// Ends the upload.
    ///
    /// # Errors
    /// 422 `wrong_size` or `wrong_sum`; 409 `release_changed` if the release's descriptor was
    /// replaced or the release was withdrawn; 401 if the API key was revoked meanwhile. The file is
    /// deleted then.
    pub async fn finish(mut self) -> Result<()> {
        self.flush().await?;
        // Concurrent drafts, publications and withdrawals run before or after this, not in between.
        let _lock = self.releases.change_lock.lock().await;
        let found = self.releases.store.system().release(&self.version.to_string()).await?;
        // If the release was published in the meantime, its file exists already or is the missing
        // one.
        if !found.is_some_and(|row| row.id == self.release_id && !row.is_dropped()) {
            return Err(changed());
        }
        let receiving = self.receiving.take().ok_or(UNWRITABLE)?;
        let verified = spawn_blocking(move || receiving.verify()).await;
        let verified = verified.map_err(|_| UNWRITABLE)?.map_err(refused)?;
        // Before the file: the writer refuses the entry of a key that is no longer valid.
        let now = self.releases.clock.now();
        let audit =
            self.caller.audit("release.upload", subject(self.release_id), &self.detail, now);
        self.releases.store.writer().commit(AppendAudit(audit)).await?;
        let stored = spawn_blocking(move || verified.store()).await;
        stored.map_err(|_| UNWRITABLE)?.map_err(refused)
    }

    async fn flush(&mut self) -> Result<()> {
        let mut receiving = self.receiving.take().ok_or(UNWRITABLE)?;
        let bytes = std::mem::take(&mut self.pending);
        let write = move || receiving.write(&bytes).map(|()| receiving);
        let written = spawn_blocking(write).await.map_err(|_| UNWRITABLE)?;
        self.receiving = Some(written.map_err(refused)?);
        Ok(())
    }
}

fn changed() -> ServiceError {
    ServiceError::Conflict {
        code: "release_changed",
        detail: "the release's descriptor was replaced, or the release was withdrawn; draft the release and upload its programs again"
            .into(),
    }
}

fn refused(why: ReleaseStoreError) -> ServiceError {
    let code = match &why {
        ReleaseStoreError::Size(_) => "wrong_size",
        ReleaseStoreError::Sum => "wrong_sum",
        ReleaseStoreError::NoSpace => {
            tracing::warn!("refused a program of a release because the disk is almost full");
            return ServiceError::Busy {
                code: "no_space",
                detail: "the server's disk has too little space for this program; free some, or withdraw drafts, then upload it again",
            };
        }
        ReleaseStoreError::File(error) => {
            tracing::error!(error = error_chain(error), "failed to store a program of a release");
            return UNWRITABLE;
        }
    };
    ServiceError::Invalid { code, detail: format!("the program was refused: {why}") }
}
