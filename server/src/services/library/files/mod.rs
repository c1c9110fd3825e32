//! Files that people upload to push them to hosts. [`upload`] receives their bytes, in parts.

mod upload;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use muster_protocol::commands::file_transfer::{MAX_FILE_BYTES, is_sha256};
use muster_protocol::error_chain;
use serde_json::json;
use tokio::task::spawn_blocking;

pub use self::upload::FileUpload;
use super::Library;
use crate::adapters::uploaded_files::{UploadedFileError, UploadedFiles};
use crate::domain::access::principal::Scope;
use crate::domain::ids::{FileId, TenantId};
use crate::domain::library::uploaded_file::UploadedFileRecord;
use crate::domain::page::{Page, PageRequest};
use crate::domain::time::Clock;
use crate::services::access::caller::{Caller, Subject};
use crate::services::error::{Result, ServiceError};
use crate::store::queries::{FILES_FULL, FileLimits, TOO_MANY_FILES};
use crate::store::{Store, StoreError};

/// Most files of one tenant.
pub const MAX_FILES: u64 = 1_000;
/// Size of all files of one tenant: 8 GiB.
pub const MAX_FILES_BYTES: i64 = 8 * 1024 * 1024 * 1024;
/// How long a file is kept after its last use, beside the time that work may wait for its hosts: 7 days.
pub const FILE_KEPT_MS: u64 = 7 * 24 * 60 * 60 * 1000;
/// Longest name of a file, in characters.
pub const MAX_FILE_NAME_CHARS: usize = 128;
/// Uploads that the server receives at once.
pub const MAX_FILE_UPLOADS: usize = 8;
/// Files that one query of a sweep checks.
const SWEPT_AT_ONCE: usize = 500;
const UNKNOWN: ServiceError = ServiceError::NotFound("file");
const UNUSABLE: ServiceError = ServiceError::Busy {
    code: "files_unusable",
    detail: "the server can't use its directory of files; see its log",
};

/// Use cases of uploaded files.
#[derive(Clone, Debug)]
pub struct FileLibrary {
    store: Store,
    clock: Clock,
    files: Arc<UploadedFiles>,
    /// Files that receive bytes now.
    open: Arc<Mutex<BTreeSet<FileId>>>,
}

/// A file, and how much of it is there.
#[derive(Debug, Clone)]
pub struct FileSnapshot {
    pub row: UploadedFileRecord,
    pub received_bytes: u64,
}

/// A request to upload a file.
#[derive(Debug, Clone)]
pub struct FileRequest {
    pub name: String,
    pub sha256: String,
    pub size_bytes: u64,
}

impl FileLibrary {
    /// The files in `files`.
    pub fn new(store: Store, clock: Clock, files: UploadedFiles) -> Self {
        Self { store, clock, files: Arc::new(files), open: Arc::default() }
    }

    /// Starts an upload, or finds the one with the same hash. True if it is new.
    ///
    /// # Errors
    /// 403 without `files:write`; 422 for an invalid field; 409 `too_many_files` or `files_full`.
    pub async fn create(
        &self,
        caller: &Caller,
        request: FileRequest,
    ) -> Result<(FileSnapshot, bool)> {
        caller.require(Scope::FilesWrite)?;
        if !is_sha256(&request.sha256) {
            let problem = "must be 64 digits and letters from a to f";
            return Err(ServiceError::invalid_field("sha256", problem));
        }
        if request.size_bytes > MAX_FILE_BYTES {
            return Err(ServiceError::out_of_range(
                "bytes",
                request.size_bytes,
                0..=MAX_FILE_BYTES,
            ));
        }
        let is_name = (1..=MAX_FILE_NAME_CHARS).contains(&request.name.chars().count())
            && !request.name.chars().any(|c| c.is_control() || c == '/');
        if !is_name {
            let problem = "must be 1 to 128 characters, without `/` and control characters";
            return Err(ServiceError::invalid_field("name", problem));
        }
        let now = self.clock.now();
        let new = UploadedFileRecord {
            id: FileId::new(),
            tenant_id: caller.principal.tenant_id,
            name: request.name,
            sha256: request.sha256,
            size_bytes: i64::try_from(request.size_bytes).unwrap_or(i64::MAX),
            completed_at: None,
            expires_at: now.plus_ms(FILE_KEPT_MS),
            created_by: caller.principal.id,
            created_at: now,
        };
        let size_bytes = new.size_bytes;
        let limits = FileLimits { count: MAX_FILES, bytes: MAX_FILES_BYTES };
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let (mut row, mut is_new) =
            tenant.create_file(new.clone(), limits).await.map_err(at_limit)?;
        // A restored backup has the row, and not the file.
        if row.completed_at.is_some() && !self.is_there(row.id).await {
            tenant.delete_file(row.id, None).await?;
            (row, is_new) = tenant.create_file(new, limits).await.map_err(at_limit)?;
        }
        if row.size_bytes != size_bytes {
            let problem = "is not the size of the file with this SHA-256";
            return Err(ServiceError::invalid_field("bytes", problem));
        }
        Ok((self.snapshot(row).await, is_new))
    }

    /// One page of files, newest first.
    pub async fn list(&self, caller: &Caller, page: PageRequest) -> Result<Page<FileSnapshot>> {
        caller.require(Scope::FilesWrite)?;
        let rows = self.store.tenant(caller.principal.tenant_id).files(page).await?;
        let Page { items: rows, next_cursor } = Page::of(rows, page, |row| row.id.0);
        let mut items = Vec::with_capacity(rows.len());
        for row in rows {
            items.push(self.snapshot(row).await);
        }
        Ok(Page { items, next_cursor })
    }

    /// One file.
    pub async fn get(&self, caller: &Caller, id: FileId) -> Result<FileSnapshot> {
        caller.require(Scope::FilesWrite)?;
        let row = self.find(caller, id).await?;
        Ok(self.snapshot(row).await)
    }

    /// Deletes a file. Executions that have not got it yet end with `file_missing`.
    pub async fn delete(&self, caller: &Caller, id: FileId) -> Result<()> {
        caller.require(Scope::FilesWrite)?;
        let row = self.find(caller, id).await?;
        let audit = caller.audit("file.delete", subject(id), &detail(&row), self.clock.now());
        if !self.store.tenant(row.tenant_id).delete_file(id, Some(audit)).await? {
            return Err(UNKNOWN);
        }
        // After the commit: if the server stops in between, the next sweep deletes the file.
        self.remove(id).await;
        Ok(())
    }

    /// The file with this SHA-256, for agents of the tenant. Only those that the server has sent the hash to
    /// know it.
    pub async fn path_for_agents(&self, tenant_id: TenantId, sha256: &str) -> Result<PathBuf> {
        let found = self.store.tenant(tenant_id).file_by_sha256(sha256).await?;
        Ok(self.files.path(found.ok_or(UNKNOWN)?.id))
    }

    /// Deletes files that were not used for a week, and those that no row has.
    ///
    /// # Errors
    /// [`StoreError`]; the next sweep tries again.
    pub async fn sweep(&self) -> std::result::Result<(), StoreError> {
        let deleted = self.store.system().delete_expired_files(self.clock.now()).await?;
        if deleted > 0 {
            tracing::info!(deleted, "deleted uploaded files that were not used any more");
        }
        // Listed before the rows are read: each file is created after its row.
        let files = Arc::clone(&self.files);
        let ids = spawn_blocking(move || files.ids()).await.unwrap_or_default();
        for ids in ids.chunks(SWEPT_AT_ONCE) {
            let known = self.store.system().known_files(ids.to_vec()).await?;
            for id in ids.iter().filter(|id| !known.contains(id)) {
                self.remove(*id).await;
            }
        }
        Ok(())
    }

    async fn find(&self, caller: &Caller, id: FileId) -> Result<UploadedFileRecord> {
        let found = self.store.tenant(caller.principal.tenant_id).file(id).await?;
        found.ok_or(UNKNOWN)
    }

    async fn snapshot(&self, row: UploadedFileRecord) -> FileSnapshot {
        let received_bytes = match row.completed_at {
            Some(_) => row.size_bytes.unsigned_abs(),
            None => {
                let (files, id) = (Arc::clone(&self.files), row.id);
                spawn_blocking(move || files.received_bytes(id)).await.unwrap_or_default()
            }
        };
        FileSnapshot { row, received_bytes }
    }

    async fn is_there(&self, id: FileId) -> bool {
        let files = Arc::clone(&self.files);
        spawn_blocking(move || files.path(id).exists()).await.unwrap_or(true)
    }

    async fn remove(&self, id: FileId) {
        let files = Arc::clone(&self.files);
        if let Ok(Err(error)) = spawn_blocking(move || files.remove(id)).await {
            tracing::error!(error = error_chain(&error), "failed to delete an uploaded file");
        }
    }

    /// Reserves a file for one upload; false if it has one.
    fn reserve(&self, id: FileId) -> Result<bool> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= MAX_FILE_UPLOADS {
            return Err(ServiceError::TooMany {
                code: "too_many_uploads",
                detail: "the server receives eight files already; try again in a moment",
            });
        }
        Ok(open.insert(id))
    }

    fn release(&self, id: FileId) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }
}

impl Library {
    /// The size of a complete file that work pushes. It is kept until the work has expired.
    ///
    /// # Errors
    /// 422 `unknown_file`.
    pub async fn pin_file(
        &self,
        tenant_id: TenantId,
        sha256: &str,
        expires_in_ms: u64,
    ) -> Result<u64> {
        let until = self.clock.now().plus_ms(FILE_KEPT_MS).plus_ms(expires_in_ms);
        let found = self.store.tenant(tenant_id).keep_file(sha256, until).await?;
        let unknown = || ServiceError::Invalid {
            code: "unknown_file",
            detail: format!(
                "no complete file with the SHA-256 {sha256} is uploaded; upload it first"
            ),
        };
        Ok(found.ok_or_else(unknown)?.size_bytes.unsigned_abs())
    }
}

fn subject(id: FileId) -> Subject {
    Subject { kind: "file", id: id.0 }
}

/// What an audit entry records.
fn detail(row: &UploadedFileRecord) -> serde_json::Value {
    json!({"name": row.name, "sha256": row.sha256, "bytes": row.size_bytes})
}

fn at_limit(error: StoreError) -> ServiceError {
    let (code, detail) = match error {
        StoreError::Refused(TOO_MANY_FILES) => (
            "too_many_files",
            format!("a tenant has at most {MAX_FILES} uploaded files; delete one first"),
        ),
        StoreError::Refused(FILES_FULL) => (
            "files_full",
            "the uploaded files of a tenant have at most 8 GiB; delete one first".to_owned(),
        ),
        error => return error.into(),
    };
    ServiceError::Conflict { code, detail }
}

fn refused(error: UploadedFileError) -> ServiceError {
    match error {
        UploadedFileError::NoSpace => ServiceError::Busy {
            code: "no_space",
            detail: "the server's disk has too little space for this file; free some, then continue",
        },
        UploadedFileError::TooLarge => ServiceError::invalid_field(
            "bytes",
            "is smaller than what was sent; start another upload",
        ),
        error @ UploadedFileError::File { .. } => {
            tracing::error!(error = error_chain(&error), "failed to store an uploaded file");
            UNUSABLE
        }
    }
}
