//! Parsed manifests, so that a fleet with the same manifest is checked with one copy.

use std::sync::Arc;

use moka::sync::Cache;
use muster_protocol::manifest::Manifest;

use crate::domain::fleet::reported_manifest::ManifestDigest;

/// Memory for parsed manifests, which take several times the size of their texts. Others are read
/// from the database when they are needed.
const MAX_MANIFEST_CACHE_BYTES: u64 = 32 * 1024 * 1024;

/// Recently used parsed manifests, shared by all hosts that report the same one. Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::services) struct ManifestCache(Cache<ManifestDigest, CachedManifest>);

#[derive(Clone, Debug)]
struct CachedManifest {
    manifest: Arc<Manifest>,
    bytes: u32,
}

impl Default for ManifestCache {
    fn default() -> Self {
        let weigh = |_: &ManifestDigest, cached: &CachedManifest| cached.bytes;
        Self(Cache::builder().max_capacity(MAX_MANIFEST_CACHE_BYTES).weigher(weigh).build())
    }
}

impl ManifestCache {
    /// Caches the manifest with this digest and returns it.
    pub fn insert(&self, digest: ManifestDigest, manifest: Manifest) -> Arc<Manifest> {
        let bytes = u32::try_from(manifest.memory_bytes()).unwrap_or(u32::MAX);
        let cached = || CachedManifest { manifest: Arc::new(manifest), bytes };
        self.0.entry(digest).or_insert_with(cached).into_value().manifest
    }

    pub fn get(&self, digest: ManifestDigest) -> Option<Arc<Manifest>> {
        self.0.get(&digest).map(|cached| cached.manifest)
    }
}
