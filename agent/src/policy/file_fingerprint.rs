//! Detects whether a file has changed since it was last read.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Values that change when a file is edited or replaced, or its owner or mode changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileFingerprint {
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl FileFingerprint {
    /// Reads the fingerprint; `None` if the file does not exist or can't be accessed.
    pub fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            inode: metadata.ino(),
            bytes: metadata.len(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}
