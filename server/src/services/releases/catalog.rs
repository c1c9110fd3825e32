//! Which releases hosts may have: what several use cases ask.

use std::sync::Arc;

use muster_protocol::release::{Platform, ReleaseManifest, Version};
use tokio::sync::Mutex;

use crate::domain::releases::newest_release::newest;
use crate::store::entities::releases::release;
use crate::store::{Store, StoreError};

/// The releases that are published and not withdrawn.
#[derive(Debug, Clone)]
pub(in crate::services) struct ReleaseCatalog {
    store: Store,
    /// The newest one, once it was looked for; of which there may be none.
    newest: Arc<Mutex<Option<Option<OpenRelease>>>>,
}

/// A release that hosts may have.
#[derive(Debug, Clone)]
pub(in crate::services) struct OpenRelease {
    pub row: release::Model,
    pub manifest: ReleaseManifest,
}

impl ReleaseCatalog {
    /// Over this store.
    pub fn new(store: Store) -> Self {
        Self { store, newest: Arc::default() }
    }

    /// The newest one by version. One that is marked as a preview counts only where there is no
    /// other. Everybody may ask, so it is read once, until [`forget`](Self::forget).
    pub async fn newest(&self) -> Result<Option<OpenRelease>, StoreError> {
        // Held while it is read: what is forgotten meanwhile is forgotten after.
        let mut known = self.newest.lock().await;
        if let Some(newest) = &*known {
            return Ok(newest.clone());
        }
        let mut rows = self.store.system().open_releases().await?;
        let newest = newest(rows.iter().map(|row| row.version.as_str()));
        let newest = newest.and_then(|index| OpenRelease::read(rows.swap_remove(index)));
        *known = Some(newest.clone());
        Ok(newest)
    }

    /// Some release was published or withdrawn: the newest one is looked for again.
    pub async fn forget(&self) {
        *self.newest.lock().await = None;
    }

    /// This very version.
    pub async fn find(&self, version: &Version) -> Result<Option<OpenRelease>, StoreError> {
        let row = self.store.system().release(&version.to_string()).await?;
        Ok(row.filter(release::Model::is_open).and_then(OpenRelease::read))
    }
}

/// The platform of an agent by what it says of itself, such as `Linux 6.1` and `x86_64`; `None` if
/// that has no name here.
pub(in crate::services) fn platform_of(os: &str, arch: &str) -> Option<Platform> {
    let system = os.split_whitespace().next()?.to_ascii_lowercase();
    Platform::parse(&format!("{system}-{arch}"))
}

impl OpenRelease {
    fn read(row: release::Model) -> Option<Self> {
        let manifest = ReleaseManifest::read(row.manifest.as_bytes());
        // It was read when it was stored.
        manifest.ok().map(|manifest| Self { row, manifest })
    }

    /// True if it has programs for this platform, or which one that is is not known.
    pub fn is_for(&self, platform: Option<Platform>) -> bool {
        platform.is_none_or(|platform| self.manifest.files(platform).is_some())
    }
}
