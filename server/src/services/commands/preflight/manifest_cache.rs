//! Hosts' lists of scripts, read once for all hosts that share one.

use std::sync::Arc;

use moka::sync::Cache;
use muster_protocol::manifest::Manifest;

use crate::domain::fleet::manifest_digest::ManifestDigest;

/// ManifestCache that are kept in memory, by the size of their texts; others are read when they are asked
/// for.
const MAX_BYTES: u64 = 32 * 1024 * 1024;

/// The lists that were seen lately. Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::services) struct ManifestCache(Cache<ManifestDigest, Kept>);

#[derive(Clone, Debug)]
struct Kept {
    list: Arc<Manifest>,
    bytes: u32,
}

impl Default for ManifestCache {
    fn default() -> Self {
        let weigh = |_: &ManifestDigest, kept: &Kept| kept.bytes;
        Self(Cache::builder().max_capacity(MAX_BYTES).weigher(weigh).build())
    }
}

impl ManifestCache {
    /// Keeps a list and says what to ask for it by.
    pub fn keep(&self, text: &str, list: Manifest) -> ManifestDigest {
        let digest = ManifestDigest::of(text);
        let bytes = u32::try_from(text.len()).unwrap_or(u32::MAX);
        self.0.entry(digest).or_insert_with(|| Kept { list: Arc::new(list), bytes });
        digest
    }

    pub fn get(&self, digest: ManifestDigest) -> Option<Arc<Manifest>> {
        self.0.get(&digest).map(|kept| kept.list)
    }
}
