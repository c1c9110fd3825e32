//! Packages on the host: their archives are kept by their SHA-256 in `package_archives/` of the state
//! directory, and each execution unpacks one into a folder of its own, `packages/ID`.
//!
//! The archive is hashed and checked again before each unpacking, and unpacked from the file that was
//! hashed. Files belong to the agent's user. The shim removes the folder when the script has ended;
//! folders that a killed shim leaves, the agent removes when it settles the execution and when it starts.

mod cache;
mod unpack;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use futures_util::future::BoxFuture;
use muster_protocol::package::{MAX_UNPACKED_BYTES, archive::ArchiveError};
use tokio::sync::watch;
use uuid::Uuid;

use crate::executions::ledger::record::Launch;
use crate::platform;
use crate::storage::layout::{ExecutionDir, StateDir, id_of_name};

/// Free disk space that must remain after a package is unpacked.
const MIN_FREE_BYTES: u64 = 64 * 1024 * 1024;

/// Where archives come from.
pub trait PackageSource: Debug + Send + Sync {
    /// Downloads the archive with this SHA-256 into a file, and resumes an earlier download. Repeats what
    /// may succeed later. Nothing about the bytes is promised but their number.
    fn fetch<'a>(
        &'a self,
        sha256: &'a str,
        bytes: u64,
        to: &'a Path,
    ) -> BoxFuture<'a, Result<(), FetchError>>;

    /// The same for a file that is pushed to this host.
    fn fetch_file<'a>(
        &'a self,
        sha256: &'a str,
        bytes: u64,
        to: &'a Path,
    ) -> BoxFuture<'a, Result<(), FetchError>>;
}

/// Why an archive can't be downloaded, now or later.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("the server does not have the archive of the package; it may have been deleted")]
    Missing,
    #[error("the server does not have the file any more; upload it again")]
    MissingFile,
    #[error("{message}")]
    Failed { code: &'static str, message: String },
}

/// Why a package is not there for its execution. The messages are shown to people.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// The execution was cancelled meanwhile.
    #[error("the execution was cancelled")]
    Cancelled,
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("what the server sent has another SHA-256 than the command names")]
    Hash,
    #[error("what the server names as a SHA-256 is none")]
    Name,
    #[error("the archive is no package: {0}")]
    Archive(ArchiveError),
    #[error(
        "the host's disk has too little space for the package; free some space and send the command again"
    )]
    NoSpace,
    #[error("the package could not be {action}: {source}")]
    Disk {
        action: &'static str,
        #[source]
        source: io::Error,
    },
}

impl PackageError {
    /// The stable code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Fetch(FetchError::Missing) => "package_missing",
            Self::Fetch(FetchError::MissingFile) => "file_missing",
            Self::Fetch(FetchError::Failed { code, .. }) => code,
            Self::Hash => "hash_mismatch",
            Self::Name => "invalid_data",
            Self::Archive(_) => "invalid_package",
            Self::NoSpace => "no_space",
            Self::Disk { source, .. } if is_full(source) => "no_space",
            Self::Disk { .. } => "storage_failed",
        }
    }

    fn disk(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Disk { action, source }
    }
}

/// Downloads, checks and unpacks packages. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PackageStore {
    state: StateDir,
    source: Arc<dyn PackageSource>,
    /// By the SHA-256: one execution at a time downloads an archive.
    locks: Arc<Mutex<BTreeMap<String, Weak<tokio::sync::Mutex<()>>>>>,
    /// Archives that are kept however long they were not used, by their SHA-256.
    pinned: Arc<Mutex<BTreeSet<String>>>,
}

/// Ends when its other half is dropped.
pub type Cancelled = watch::Receiver<()>;

impl PackageStore {
    pub fn new(state: StateDir, source: Arc<dyn PackageSource>) -> Self {
        Self { state, source, locks: Arc::default(), pinned: Arc::default() }
    }

    /// Unpacks the package of an execution into a fresh folder. Nothing is left if it fails.
    ///
    /// # Errors
    /// [`PackageError`]
    pub async fn prepare(
        &self,
        command_id: Uuid,
        launch: Launch,
        cancelled: Cancelled,
    ) -> Result<(), PackageError> {
        let mut until = cancelled.clone();
        if launch.file.is_some() {
            let ready = tokio::select! {
                ready = self.content(command_id, &launch) => ready,
                _ = until.changed() => Err(PackageError::Cancelled),
            };
            return ready.inspect_err(|_| remove(&self.state.execution(command_id)));
        }
        let archive = tokio::select! {
            archive = self.archive(&launch) => archive?,
            _ = until.changed() => return Err(PackageError::Cancelled),
        };
        let execution = self.state.execution(command_id);
        let unpack = move || {
            let unpacked = unpack::unpack(archive, &execution, &launch, &cancelled);
            if unpacked.is_err() || is_cancelled(&cancelled) {
                remove(&execution);
            }
            unpacked
        };
        let unpacked = tokio::task::spawn_blocking(unpack).await;
        unpacked.map_err(|error| PackageError::disk("unpacked")(io::Error::other(error)))?
    }

    /// The archive of a package, downloaded if it is not there. Its hash was checked.
    async fn archive(&self, launch: &Launch) -> Result<fs::File, PackageError> {
        let sha256 = launch.sha256.clone().unwrap_or_default();
        let bytes = launch.package.as_ref().map_or(0, |package| package.archive_bytes);
        self.archive_of(&sha256, bytes).await
    }

    /// Downloads the content of a push into the folder of its execution. It is kept nowhere else.
    async fn content(&self, command_id: Uuid, launch: &Launch) -> Result<(), PackageError> {
        let sha256 = launch.sha256.clone().unwrap_or_default();
        let bytes = launch.file.as_ref().and_then(|file| file.bytes).unwrap_or_default();
        let lock = self.lock_of(&sha256);
        let _held = lock.lock().await;
        let execution = self.state.execution(command_id);
        let partial = execution.archive().with_extension("part");
        self.check_space(bytes)?;
        self.source.fetch_file(&sha256, bytes, &partial).await?;
        cache::accept_content(partial, execution.archive(), sha256).await
    }

    async fn archive_of(&self, sha256: &str, bytes: u64) -> Result<fs::File, PackageError> {
        let lock = self.lock_of(sha256);
        let _held = lock.lock().await;
        if let Some(archive) = cache::open(&self.state, sha256).await? {
            return Ok(archive);
        }
        self.check_space(bytes)?;
        let partial = cache::partial(&self.state, sha256)?;
        self.source.fetch(sha256, bytes, &partial).await?;
        let mut kept = self.pinned.lock().unwrap_or_else(PoisonError::into_inner).clone();
        kept.insert(sha256.to_owned());
        cache::accept(&self.state, sha256, kept).await
    }

    /// Downloads an archive ahead of its use. Its hash is checked, also if it was there.
    ///
    /// # Errors
    /// [`PackageError`]
    pub async fn keep(&self, sha256: &str, bytes: u64) -> Result<(), PackageError> {
        self.archive_of(sha256, bytes).await.map(drop)
    }

    /// Keeps these archives, and no others of those that were kept before.
    pub fn pin(&self, pinned: BTreeSet<String>) {
        *self.pinned.lock().unwrap_or_else(PoisonError::into_inner) = pinned;
    }

    /// Removes an archive. An execution that unpacks it has it open.
    pub fn discard(&self, sha256: &str) {
        cache::remove(&self.state, sha256);
    }

    fn check_space(&self, bytes: u64) -> Result<(), PackageError> {
        // If the free space is unknown, a full disk fails the write.
        match platform::disk_free_bytes(self.state.path()) {
            Ok(free) if free < bytes.saturating_add(MIN_FREE_BYTES) => Err(PackageError::NoSpace),
            _ => Ok(()),
        }
    }

    fn lock_of(&self, sha256: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = locks.get(sha256).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        locks.insert(sha256.to_owned(), Arc::downgrade(&lock));
        lock
    }
}

/// Removes the unpacked package of an execution, or the content that it writes, if there is one.
pub fn remove(execution: &ExecutionDir) {
    for content in [execution.archive(), execution.archive().with_extension("part")] {
        if let Err(error) = fs::remove_file(&content)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::error!(path = %content.display(), %error, "failed to remove a transferred file");
        }
    }
    let Some(folder) = execution.package() else { return };
    if let Err(error) = fs::remove_dir_all(&folder)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::error!(path = %folder.display(), %error, "failed to remove an unpacked package");
    }
}

/// Removes the unpacked packages of all executions except those that run.
pub fn remove_stale(state: &StateDir, is_running: impl Fn(Uuid) -> bool) {
    let Ok(folders) = fs::read_dir(state.packages()) else { return };
    let names = folders.flatten().filter_map(|folder| folder.file_name().into_string().ok());
    let ids = names.filter_map(|name| id_of_name(&name));
    ids.filter(|id| !is_running(*id)).for_each(|id| remove(&state.execution(id)));
}

fn is_cancelled(cancelled: &Cancelled) -> bool {
    cancelled.has_changed().is_err()
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Free space that unpacking needs at most.
fn unpacked_limit(state: &StateDir) -> u64 {
    let free = platform::disk_free_bytes(state.path()).unwrap_or(u64::MAX);
    free.saturating_sub(MIN_FREE_BYTES).min(MAX_UNPACKED_BYTES)
}

#[cfg(test)]
mod tests;
