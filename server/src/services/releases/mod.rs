//! Releases: draft, upload, publish and withdraw. The server has no signing key, so it can only
//! distribute what was signed elsewhere.

pub(super) mod catalog;
mod desired_release;
pub mod groups;
mod keys;
mod publication;
mod upload;

use std::path::PathBuf;
use std::sync::Arc;

use muster_protocol::error_chain;
use muster_protocol::release::{
    KeyChange, Platform, Program, ProgramFile, PublicKey, ReleaseDescriptor, Signature,
    VerifyError, Version, verify_signature,
};
use serde_json::json;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use self::catalog::ReleaseCatalog;
pub use self::keys::NewKeyChange;
pub use self::upload::Upload;
use super::access::caller::{Caller, Subject};
use super::error::{Result, ServiceError};
use crate::adapters::release_files::ReleaseFiles;
use crate::domain::access::principal::Scope;
use crate::domain::ids::ReleaseId;
use crate::domain::page::{Page, PageRequest};
use crate::domain::releases::records::ReleaseRecord;
use crate::domain::time::Clock;
use crate::store::Store;
use crate::store::entities::releases::release;

/// Most releases that are drafted and not published.
const MAX_DRAFTS: usize = 32;
/// Longest signature with its key, as JSON, in bytes.
pub const MAX_SIGNATURE_BYTES: usize = 4 * 1024;

const UNKNOWN: ServiceError = ServiceError::NotFound("release");
const UNWRITABLE: ServiceError = ServiceError::Busy {
    code: "releases_unusable",
    detail: "the server can't use its release directory; see its log",
};

/// Use cases of releases.
#[derive(Clone, Debug)]
pub struct Releases {
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) files: Arc<ReleaseFiles>,
    pub(super) catalog: ReleaseCatalog,
    /// Serialises drafts, uploads and publications, because files and rows must agree.
    pub(super) change_lock: Arc<Mutex<()>>,
}

/// A release with its parsed descriptor.
#[derive(Debug, Clone)]
pub struct Release {
    pub row: ReleaseRecord,
    pub descriptor: ReleaseDescriptor,
    pub fingerprint: String,
}

/// A program of a release, and whether its file is on the server.
#[derive(Debug, Clone)]
pub struct ReleaseProgram {
    pub platform: Platform,
    pub file: ProgramFile,
    pub is_uploaded: bool,
}

impl Releases {
    /// Stores a descriptor with its signature, byte for byte. Repeatable. Another descriptor of the
    /// same version replaces an unpublished one.
    ///
    /// # Errors
    /// 422 `invalid_release`; 409 `release_published` if another descriptor of this version was
    /// published, `too_many_drafts`.
    pub async fn draft(
        &self,
        caller: &Caller,
        descriptor: String,
        signature: String,
    ) -> Result<Release> {
        caller.require(Scope::ReleasesManage)?;
        let (parsed, key) = read(&descriptor, &signature)?;
        let _lock = self.change_lock.lock().await;
        let system = self.store.system();
        let known = system.release(&parsed.version.to_string()).await?;
        match &known {
            // Two signatures of one descriptor are equal, but their text may differ.
            Some(row)
                if row.descriptor == descriptor
                    && row.release_key == key.to_string()
                    && !row.is_dropped() =>
            {
                return Release::read(row.clone());
            }
            Some(row) if row.published_at.is_some() => return Err(published(&parsed.version)),
            // The same draft exists already.
            Some(row) if !row.is_dropped() => {}
            _ if system.release_drafts().await? >= MAX_DRAFTS => {
                return Err(ServiceError::Conflict {
                    code: "too_many_drafts",
                    detail: format!(
                        "the limit of {MAX_DRAFTS} unpublished releases is reached; publish or withdraw some first"
                    ),
                });
            }
            _ => {}
        }
        let now = self.clock.now();
        let row = release::Model {
            id: ReleaseId::new(),
            version: parsed.version.to_string(),
            descriptor,
            signature,
            release_key: key.to_string(),
            created_at: now,
            created_by: caller.principal.id,
            published_at: None,
            published_by: None,
            withdrawn_at: None,
        };
        let detail = json!({"version": row.version, "key": key.fingerprint()});
        let audit = caller.audit("release.draft", subject(row.id), &detail, now);
        system.draft_release(row.clone(), audit).await?;
        if known.is_some() {
            // The programs of the replaced descriptor are not needed.
            let (files, version) = (Arc::clone(&self.files), parsed.version.clone());
            blocking(move || files.remove(&version)).await?;
        }
        Release::read(row)
    }

    /// One page of releases, newest first. Only callers who manage releases see those that were never
    /// published.
    pub async fn list(&self, caller: &Caller, page: PageRequest) -> Result<Page<Release>> {
        caller.require(Scope::AgentsRead)?;
        let rows = self.store.system().releases(page, !is_manager(caller)).await?;
        let Page { items, next_cursor } = Page::of(rows, page, |row| row.id.0);
        let items = items.into_iter().map(Release::read).collect::<Result<_>>()?;
        Ok(Page { items, next_cursor })
    }

    /// One release, and which of its programs are on the server.
    ///
    /// # Errors
    /// 404, also for one that was never published if the caller does not manage releases.
    pub async fn get(
        &self,
        caller: &Caller,
        version: &Version,
    ) -> Result<(Release, Vec<ReleaseProgram>)> {
        caller.require(Scope::AgentsRead)?;
        let row = self.store.system().release(&version.to_string()).await?;
        let is_visible = |row: &release::Model| is_manager(caller) || row.published_at.is_some();
        let release = Release::read(row.filter(is_visible).ok_or(UNKNOWN)?)?;
        let programs = self.look_at(&release.descriptor).await?;
        Ok((release, programs))
    }

    async fn look_at(&self, descriptor: &ReleaseDescriptor) -> Result<Vec<ReleaseProgram>> {
        let (files, descriptor) = (Arc::clone(&self.files), descriptor.clone());
        let look = move || {
            let all = descriptor.targets.iter().flat_map(|(platform, programs)| {
                programs.iter().map(move |program| (*platform, program))
            });
            all.map(|(platform, file)| ReleaseProgram {
                platform,
                is_uploaded: files.has(&descriptor.version, platform, file),
                file: file.clone(),
            })
            .collect()
        };
        spawn_blocking(look).await.map_err(|_| UNWRITABLE)
    }
}

impl Release {
    fn read(row: release::Model) -> Result<Self> {
        let (descriptor, key) = read(&row.descriptor, &row.signature)?;
        Ok(Self { descriptor, fingerprint: key.fingerprint(), row: row.into() })
    }
}

/// Parses a descriptor and checks its signature. Returns the key.
fn read(descriptor: &str, signature: &str) -> Result<(ReleaseDescriptor, PublicKey)> {
    let invalid = |detail: String| ServiceError::Invalid { code: "invalid_release", detail };
    let unreadable = "the signature is malformed; send the unchanged text of release.sig";
    if signature.len() > MAX_SIGNATURE_BYTES {
        return Err(invalid(unreadable.into()));
    }
    let signature: Signature =
        serde_json::from_str(signature).map_err(|_| invalid(unreadable.into()))?;
    let descriptor = verify_signature(descriptor.as_bytes(), &signature)
        .map_err(|refusal: VerifyError| invalid(refusal.to_string()))?;
    Ok((descriptor, signature.key))
}

fn published(version: &Version) -> ServiceError {
    ServiceError::Conflict {
        code: "release_published",
        detail: format!("{version} was already published with other content; use another version"),
    }
}

/// Releases belong to the server's operator. Other callers see what their hosts may install, and not
/// who made it.
pub fn is_manager(caller: &Caller) -> bool {
    caller.principal.may(Scope::ReleasesManage)
}

fn subject(id: ReleaseId) -> Subject {
    Subject { kind: "release", id: id.0 }
}

/// Runs a file operation on a blocking thread.
async fn blocking<T, E>(
    work: impl FnOnce() -> std::result::Result<T, E> + Send + 'static,
) -> Result<T>
where
    T: Send + 'static,
    E: std::error::Error + Send + 'static,
{
    match spawn_blocking(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => {
            tracing::error!(error = error_chain(&error), "failed to use the release directory");
            Err(UNWRITABLE)
        }
        Err(_) => Err(UNWRITABLE),
    }
}

/// The files that hosts download. Public, because they are not secret and hosts only trust
/// signatures.
impl Releases {
    /// The descriptor, byte for byte.
    pub async fn descriptor(&self, version: &Version) -> Result<String> {
        Ok(self.catalog.find(version).await?.ok_or(UNKNOWN)?.row.descriptor)
    }

    /// The signature.
    pub async fn signature(&self, version: &Version) -> Result<String> {
        Ok(self.catalog.find(version).await?.ok_or(UNKNOWN)?.row.signature)
    }

    /// Key changes, oldest first.
    pub async fn statements(&self) -> Result<Vec<KeyChange>> {
        self.key_changes().await
    }

    /// The file of a program.
    pub async fn program(
        &self,
        version: &Version,
        platform: Platform,
        program: Program,
    ) -> Result<PathBuf> {
        let release = self.catalog.find(version).await?.ok_or(UNKNOWN)?;
        match release.is_for(Some(platform)) {
            true => Ok(self.files.path(version, platform, program)),
            false => Err(ServiceError::NotFound("program for that platform")),
        }
    }
}
