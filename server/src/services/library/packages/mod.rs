//! Packages: list, show, download and delete. [`upload`] receives them, [`signatures`] what publishers signed.

mod signatures;
mod upload;

use std::path::PathBuf;
use std::sync::Arc;

use muster_protocol::commands::file_transfer::is_sha256;
use muster_protocol::error_chain;
use muster_protocol::library::ScriptSignature;
use serde_json::json;
use tokio::sync::{Notify, Semaphore};
use tokio::task::spawn_blocking;

pub use self::upload::PackageUpload;
use super::changes::require_write;
use crate::adapters::package_files::PackageFiles;
use crate::domain::access::principal::Scope;
use crate::domain::ids::{PackageId, TenantId};
use crate::domain::library::package_records::PackageRecord;
use crate::domain::page::{Page, PageRequest};
use crate::domain::time::Clock;
use crate::services::access::caller::{Caller, Subject};
use crate::services::error::{Result, ServiceError};
use crate::store::queries::PACKAGE_ASSIGNED;
use crate::store::{Store, StoreError};

/// Most packages of one tenant, with all their versions.
pub const MAX_PACKAGES: u64 = 1_000;
/// Size of all archives of one tenant: 4 GiB.
pub const MAX_PACKAGES_BYTES: i64 = 4 * 1024 * 1024 * 1024;
/// Uploads that the server receives or checks at once.
const UPLOADS_AT_ONCE: usize = 4;
/// Files that one query of a sweep checks.
const SWEPT_AT_ONCE: usize = 500;
const UNKNOWN: ServiceError = ServiceError::NotFound("package");
const UNUSABLE: ServiceError = ServiceError::Busy {
    code: "packages_unusable",
    detail: "the server can't use its directory of packages; see its log",
};

/// A package with what publishers have signed about it.
#[derive(Clone, Debug)]
pub struct PackageSnapshot {
    pub row: PackageRecord,
    pub signatures: Vec<ScriptSignature>,
}

/// What an agent downloads.
#[derive(Debug)]
pub enum AssignedFile {
    /// The file of an archive.
    Archive(PathBuf),
    /// The body of a script.
    Body(String),
}

/// Use cases of packages.
#[derive(Clone, Debug)]
pub struct Packages {
    store: Store,
    clock: Clock,
    files: Arc<PackageFiles>,
    uploads: Arc<Semaphore>,
    /// What agents get of their assignments has changed.
    assignments_changed: Arc<Notify>,
}

impl Packages {
    /// The packages whose archives are in `files`.
    pub fn new(
        store: Store,
        clock: Clock,
        files: PackageFiles,
        assignments_changed: Arc<Notify>,
    ) -> Self {
        let uploads = Arc::new(Semaphore::new(UPLOADS_AT_ONCE));
        Self { store, clock, files: Arc::new(files), uploads, assignments_changed }
    }

    /// One page of packages, newest first.
    pub async fn list(
        &self,
        caller: &Caller,
        name: Option<&str>,
        page: PageRequest,
    ) -> Result<Page<PackageSnapshot>> {
        caller.require(Scope::ScriptsRead)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let rows = tenant.packages(name, page).await?;
        let mut signatures =
            tenant.package_signatures(rows.iter().map(|row| row.id).collect()).await?;
        Ok(Page::of(rows, page, |row| row.id.0).map(|row| {
            let signatures = signatures.remove(&row.id).unwrap_or_default();
            PackageSnapshot { row: row.into(), signatures }
        }))
    }

    /// One package.
    pub async fn get(&self, caller: &Caller, id: PackageId) -> Result<PackageSnapshot> {
        caller.require(Scope::ScriptsRead)?;
        let row = self.find(caller, id).await?;
        self.with_signatures(row).await
    }

    /// A package with its signatures.
    pub(super) async fn with_signatures(&self, row: PackageRecord) -> Result<PackageSnapshot> {
        let found = self.store.tenant(row.tenant_id).package_signatures(vec![row.id]).await?;
        let signatures = found.into_values().flatten().collect();
        Ok(PackageSnapshot { row, signatures })
    }

    /// The archive of a package, for people.
    pub async fn archive(&self, caller: &Caller, id: PackageId) -> Result<PathBuf> {
        let found = self.get(caller, id).await?;
        Ok(self.files.path(found.row.id))
    }

    /// The archive with this SHA-256, or the body of a script that is assigned, for agents of the tenant. Only those
    /// that the server has sent the hash to know it.
    pub async fn archive_for_agents(
        &self,
        tenant_id: TenantId,
        sha256: &str,
    ) -> Result<AssignedFile> {
        let tenant = self.store.tenant(tenant_id);
        if let Some(found) = tenant.package_by_archive(sha256).await? {
            return Ok(AssignedFile::Archive(self.files.path(found.id)));
        }
        let body = if is_sha256(sha256) { tenant.assigned_body(sha256).await? } else { None };
        body.map(AssignedFile::Body).ok_or(UNKNOWN)
    }

    /// Deletes a package. Executions that wait for their hosts do not run any more.
    ///
    /// # Errors
    /// 409 `package_assigned` while hosts have to get it.
    pub async fn delete(&self, caller: &Caller, id: PackageId) -> Result<()> {
        require_write(caller)?;
        let row = self.find(caller, id).await?;
        let detail = detail(&row);
        let audit = caller.audit("package.delete", subject(id), &detail, self.clock.now());
        match self.store.tenant(row.tenant_id).delete_package(id, audit).await {
            Err(StoreError::Refused(PACKAGE_ASSIGNED)) => {
                return Err(ServiceError::Conflict {
                    code: "package_assigned",
                    detail: "an assignment names this package; delete the assignment first, or give it another version".into(),
                });
            }
            Ok(false) => return Err(UNKNOWN),
            deleted => deleted?,
        };
        // After the commit: if the server stops in between, the next sweep deletes the file.
        self.remove_file(id).await;
        Ok(())
    }

    /// Deletes the archives that no package has: of deleted tenants, and of uploads that did not end.
    /// Does nothing while a package is uploaded, because its file is there before its row.
    ///
    /// # Errors
    /// [`StoreError`]; the next sweep tries again.
    pub async fn sweep(&self) -> std::result::Result<(), StoreError> {
        // No upload is in progress while all permits are held. Waiting for them would refuse uploads.
        let Ok(permits) = self.uploads.try_acquire_many(UPLOADS_AT_ONCE as u32) else {
            return Ok(());
        };
        let files = Arc::clone(&self.files);
        let ids = spawn_blocking(move || files.ids()).await.unwrap_or_default();
        for ids in ids.chunks(SWEPT_AT_ONCE) {
            let known = self.store.system().known_packages(ids.to_vec()).await?;
            for id in ids.iter().filter(|id| !known.contains(id)) {
                self.remove_file(*id).await;
            }
        }
        drop(permits);
        Ok(())
    }

    async fn find(&self, caller: &Caller, id: PackageId) -> Result<PackageRecord> {
        let found = self.store.tenant(caller.principal.tenant_id).package(id).await?;
        found.ok_or(UNKNOWN)
    }

    async fn remove_file(&self, id: PackageId) {
        let files = Arc::clone(&self.files);
        if let Ok(Err(error)) = spawn_blocking(move || files.remove(id)).await {
            tracing::error!(
                error = error_chain(&error),
                "failed to delete the archive of a package"
            );
        }
    }
}

fn subject(id: PackageId) -> Subject {
    Subject { kind: "package", id: id.0 }
}

/// What an audit entry records.
fn detail(row: &PackageRecord) -> serde_json::Value {
    json!({"name": row.name, "version": row.version, "sha256": row.sha256})
}
