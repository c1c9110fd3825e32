//! Receives packages: hashes the archive, reads it by the rules that hosts apply again, and stores it.

use std::sync::Arc;

use bytes::Bytes;
use muster_protocol::error_chain;
use muster_protocol::package::description::{InspectError, Inspected, inspect};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_blocking;

use super::{
    MAX_PACKAGES, MAX_PACKAGES_BYTES, PackageSnapshot, Packages, UNUSABLE, detail, require_write,
    subject,
};
use crate::adapters::package_files::{IncomingArchive, PackageFileError};
use crate::domain::ids::PackageId;
use crate::domain::library::package_records::PackageRecord;
use crate::services::access::caller::Caller;
use crate::services::error::{Result, ServiceError};
use crate::store::StoreError;
use crate::store::queries::{PACKAGES_FULL, PackageLimits, StoredPackage, TOO_MANY_PACKAGES};

/// Bytes that are collected before they are written.
const WRITTEN_AT_ONCE: usize = 256 * 1024;

/// A package that is being received. Dropping it before the end leaves no file.
pub struct PackageUpload {
    packages: Packages,
    caller: Caller,
    /// `None` while a write is in progress.
    receiving: Option<Box<IncomingArchive>>,
    pending: Vec<u8>,
    _permit: OwnedSemaphorePermit,
}

/// Why an archive is refused.
#[derive(Debug, thiserror::Error)]
enum PackageRefusal {
    #[error(transparent)]
    Archive(#[from] InspectError),
    #[error(transparent)]
    File(#[from] PackageFileError),
}

impl Packages {
    /// Starts the upload of a package.
    ///
    /// # Errors
    /// 403 without `scripts:write`; 429 `too_many_uploads`; 503 `no_space`.
    pub async fn upload(&self, caller: &Caller) -> Result<PackageUpload> {
        require_write(caller)?;
        let permit = Arc::clone(&self.uploads).try_acquire_owned();
        let permit = permit.map_err(|_| ServiceError::TooMany {
            code: "too_many_uploads",
            detail: "the server receives four packages already; try again in a moment",
        })?;
        let files = Arc::clone(&self.files);
        let started = spawn_blocking(move || files.receive()).await.map_err(|_| UNUSABLE)?;
        let receiving = started.map_err(|error| refused(error.into()))?;
        Ok(PackageUpload {
            packages: self.clone(),
            caller: caller.clone(),
            receiving: Some(Box::new(receiving)),
            pending: Vec::new(),
            _permit: permit,
        })
    }
}

impl PackageUpload {
    /// Adds received bytes.
    ///
    /// # Errors
    /// 422 `invalid_package` if the archive is too large.
    pub async fn write(&mut self, bytes: &Bytes) -> Result<()> {
        self.pending.extend_from_slice(bytes);
        match self.pending.len() {
            0..WRITTEN_AT_ONCE => Ok(()),
            _ => self.flush().await,
        }
    }

    /// Ends the upload: checks the archive and stores the package. True if it is new; a package with the
    /// same name, version and archive is returned as it is.
    ///
    /// # Errors
    /// 422 `invalid_package` with the reason; 409 `package_exists` if the name and the version belong to
    /// another archive, `too_many_packages` or `packages_full`.
    pub async fn finish(mut self) -> Result<(PackageSnapshot, bool)> {
        self.flush().await?;
        let mut receiving = self.receiving.take().ok_or(UNUSABLE)?;
        let check = move || -> std::result::Result<_, PackageRefusal> {
            let (sha256, archive_bytes) = (receiving.sha256(), receiving.bytes());
            let inspected = inspect(receiving.reader()?, archive_bytes, sha256)?;
            Ok((receiving, inspected))
        };
        let checked = spawn_blocking(check).await.map_err(|_| UNUSABLE)?;
        let (receiving, Inspected { format, entries, document }) = checked.map_err(refused)?;
        let now = self.packages.clock.now();
        let row = PackageRecord {
            id: PackageId::new(),
            tenant_id: self.caller.principal.tenant_id,
            document: document.to_text(),
            name: document.name,
            version: document.version,
            sha256: document.sha256,
            format: format.as_str().to_owned(),
            archive_bytes: document.archive_bytes.cast_signed(),
            unpacked_bytes: document.unpacked_bytes.cast_signed(),
            entry_count: i64::try_from(entries.count()).unwrap_or(i64::MAX),
            created_by: self.caller.principal.id,
            created_at: now,
        };
        let (files, id) = (Arc::clone(&self.packages.files), row.id);
        // The file first: a row promises that its archive is there.
        let stored = spawn_blocking(move || receiving.store(&files, id)).await;
        stored.map_err(|_| UNUSABLE)?.map_err(|error| refused(error.into()))?;
        let audit = self.caller.audit("package.upload", subject(id), &detail(&row), now);
        let tenant = self.packages.store.tenant(row.tenant_id);
        let limits = PackageLimits { count: MAX_PACKAGES, bytes: MAX_PACKAGES_BYTES };
        match tenant.create_package(row.clone().into(), limits, audit).await {
            Ok(StoredPackage::New) => Ok((PackageSnapshot { row, signatures: Vec::new() }, true)),
            Ok(StoredPackage::Known(known)) => {
                self.packages.remove_file(id).await;
                match known.sha256 == row.sha256 {
                    true => Ok((self.packages.with_signatures(known).await?, false)),
                    false => Err(exists(&row)),
                }
            }
            Err(error) => {
                // If the commit's answer was lost, the row may be there: then the file must be, too.
                if matches!(error, StoreError::Refused(_)) {
                    self.packages.remove_file(id).await;
                }
                Err(at_limit(error))
            }
        }
    }

    async fn flush(&mut self) -> Result<()> {
        let mut receiving = self.receiving.take().ok_or(UNUSABLE)?;
        let bytes = std::mem::take(&mut self.pending);
        let write = move || receiving.write(&bytes).map(|()| receiving);
        let written = spawn_blocking(write).await.map_err(|_| UNUSABLE)?;
        self.receiving = Some(written.map_err(|error| refused(error.into()))?);
        Ok(())
    }
}

fn exists(row: &PackageRecord) -> ServiceError {
    ServiceError::Conflict {
        code: "package_exists",
        detail: format!(
            "the package `{}` has a version {} with another archive, and versions never change; upload it with another version",
            row.name, row.version
        ),
    }
}

fn at_limit(error: StoreError) -> ServiceError {
    let (code, detail) = match error {
        StoreError::Refused(TOO_MANY_PACKAGES) => (
            "too_many_packages",
            format!("a tenant has at most {MAX_PACKAGES} packages; delete one first"),
        ),
        StoreError::Refused(PACKAGES_FULL) => (
            "packages_full",
            "the packages of a tenant have at most 4 GiB; delete one first".to_owned(),
        ),
        error => return error.into(),
    };
    ServiceError::Conflict { code, detail }
}

fn refused(why: PackageRefusal) -> ServiceError {
    match why {
        PackageRefusal::File(PackageFileError::NoSpace) => {
            tracing::warn!("refused a package because the disk is almost full");
            ServiceError::Busy {
                code: "no_space",
                detail: "the server's disk has too little space for this package; free some, then upload it again",
            }
        }
        PackageRefusal::File(error @ PackageFileError::File { .. }) => {
            tracing::error!(error = error_chain(&error), "failed to store a package");
            UNUSABLE
        }
        why => ServiceError::Invalid {
            code: "invalid_package",
            detail: format!("the archive is refused as a package: {why}"),
        },
    }
}
