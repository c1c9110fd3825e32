//! The releases that hosts may install, for several use cases.

use std::sync::Arc;

use muster_protocol::release::{Platform, ReleaseDescriptor, Version};
use tokio::sync::Mutex;

use crate::domain::releases::newest_release::newest;
use crate::store::entities::releases::release;
use crate::store::{Store, StoreError};

/// The releases that are published and not withdrawn.
#[derive(Debug, Clone)]
pub(in crate::services) struct ReleaseCatalog {
    store: Store,
    /// The newest release, once it was read. There may be none.
    newest: Arc<Mutex<Option<Option<OpenRelease>>>>,
}

/// A release that hosts may install.
#[derive(Debug, Clone)]
pub(in crate::services) struct OpenRelease {
    pub row: release::Model,
    pub descriptor: ReleaseDescriptor,
}

impl ReleaseCatalog {
    /// Creates a catalogue over this store.
    pub fn new(store: Store) -> Self {
        Self { store, newest: Arc::default() }
    }

    /// The newest release by version. A pre-release is only returned if there is no other. It is
    /// cached until [`forget`](Self::forget), because public requests read it.
    pub async fn newest(&self) -> Result<Option<OpenRelease>, StoreError> {
        // Held during the read, so that a concurrent `forget` takes effect after it.
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

    /// A release was published or withdrawn: drops the cached newest release.
    pub async fn forget(&self) {
        *self.newest.lock().await = None;
    }

    /// The release of exactly this version.
    pub async fn find(&self, version: &Version) -> Result<Option<OpenRelease>, StoreError> {
        let row = self.store.system().release(&version.to_string()).await?;
        Ok(row.filter(release::Model::is_open).and_then(OpenRelease::read))
    }
}

/// The platform of an agent by what it reports, such as `Linux 6.1` and `x86_64`; `None` if the
/// platform is unknown.
pub(in crate::services) fn platform_of(os: &str, arch: &str) -> Option<Platform> {
    let system = os.split_whitespace().next()?.to_ascii_lowercase();
    Platform::parse(&format!("{system}-{arch}"))
}

impl OpenRelease {
    fn read(row: release::Model) -> Option<Self> {
        let descriptor = ReleaseDescriptor::read(row.descriptor.as_bytes());
        // The descriptor was validated before it was stored.
        descriptor.ok().map(|descriptor| Self { row, descriptor })
    }

    /// True if the release has programs for this platform, or the platform is unknown.
    pub fn is_for(&self, platform: Option<Platform>) -> bool {
        platform.is_none_or(|platform| self.descriptor.files(platform).is_some())
    }
}
