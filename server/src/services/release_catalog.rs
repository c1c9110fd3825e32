//! Which releases hosts may have: what several use cases ask.

use muster_protocol::release::{Manifest, Platform, Version};

use crate::store::entities::release;
use crate::store::{Store, StoreError};

/// The releases that are published and not withdrawn.
#[derive(Debug, Clone)]
pub(super) struct ReleaseCatalog {
    pub store: Store,
}

/// A release that hosts may have.
#[derive(Debug, Clone)]
pub(super) struct OpenRelease {
    pub row: release::Model,
    pub manifest: Manifest,
}

impl ReleaseCatalog {
    /// The newest one by version. One that is marked as a preview counts only where there is no
    /// other.
    pub async fn newest(&self) -> Result<Option<OpenRelease>, StoreError> {
        let mut rows = self.store.system().open_releases().await?;
        let rank = |row: &release::Model| {
            let version = row.version.parse::<Version>().ok()?;
            Some((version.pre.is_empty(), version))
        };
        rows.sort_by_cached_key(rank);
        Ok(rows.pop().and_then(OpenRelease::read))
    }

    /// This very version.
    pub async fn find(&self, version: &Version) -> Result<Option<OpenRelease>, StoreError> {
        let row = self.store.system().release(&version.to_string()).await?;
        Ok(row.filter(release::Model::is_open).and_then(OpenRelease::read))
    }
}

/// The platform of an agent by what it says of itself, such as `Linux 6.1` and `x86_64`; `None` if
/// that has no name here.
pub(super) fn platform_of(os: &str, arch: &str) -> Option<Platform> {
    let system = os.split_whitespace().next()?.to_ascii_lowercase();
    Platform::parse(&format!("{system}-{arch}"))
}

impl OpenRelease {
    fn read(row: release::Model) -> Option<Self> {
        let manifest = Manifest::read(row.manifest.as_bytes());
        // It was read when it was stored.
        manifest.ok().map(|manifest| Self { row, manifest })
    }

    /// True if it has programs for this platform, or which one that is is not known.
    pub fn is_for(&self, platform: Option<Platform>) -> bool {
        platform.is_none_or(|platform| self.manifest.files(platform).is_some())
    }
}
