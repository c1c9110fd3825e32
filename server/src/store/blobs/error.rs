//! Failures of files of output.

use std::io::{self, ErrorKind};
use std::sync::Arc;

/// Failures of files of output.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BlobError {
    #[error("failed to {action}: {source}")]
    Io { action: &'static str, source: Arc<io::Error> },
    #[error(
        "output is not stored while less than 64 MiB are free in the data directory; make room"
    )]
    NoSpace,
    #[error("the server is stopping")]
    Stopped,
    /// A row references a file that does not exist.
    #[error("a file of output is missing; restore it from a backup")]
    Missing,
    /// A checksum or a length is wrong. No part of what was read is returned.
    #[error("a file of output is damaged ({0}); restore it from a backup")]
    Damaged(&'static str),
}

impl BlobError {
    pub(super) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::NoSpace,
            _ => Self::Io { action, source: Arc::new(source) },
        }
    }

    pub(super) fn reading(source: io::Error) -> Self {
        match source.kind() {
            ErrorKind::NotFound => Self::Missing,
            ErrorKind::UnexpectedEof => Self::Damaged("it is too short"),
            _ => Self::Io { action: "read output", source: Arc::new(source) },
        }
    }

    /// True if stored output is lost, and not only unavailable for now.
    pub fn is_loss(&self) -> bool {
        matches!(self, Self::Missing | Self::Damaged(_))
    }
}
