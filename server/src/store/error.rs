//! Why the database did not do what it was asked.

use sea_orm::DbErr;

use super::blobs::BlobError;

/// Failures of storage. None of them is told to a client in detail.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    #[error("read the database URL: {0}; use sqlite:PATH or postgres://USER@HOST/DATABASE")]
    Url(String),
    #[error("lock the database: another muster-server serves it; stop that one first")]
    Locked,
    #[error("prepare the data directory: {0}")]
    Directory(String),
    #[error("use the database")]
    Database(#[source] DbErr),
    #[error("use the database: the writer has stopped")]
    WriterStopped,
    #[error("use the database: its queue of writes is full")]
    Overloaded,
    /// A newer session of the same agent has taken over.
    #[error("write for a session that a newer one has replaced")]
    StaleEpoch,
    /// A chunk or a report whose output before it was not stored: no gap is, and no end before.
    #[error("store what comes behind output that was not stored")]
    OutputMissing,
    #[error("write to the database: its disk is full")]
    DiskFull,
    /// Files of output, beside the database.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// Output that was dropped for room.
    #[error("read output that was dropped to make room for newer output")]
    OutputDropped,
    /// The API key of the request was revoked or expired after the request was authenticated.
    #[error("change the data: the API key of the request is no longer valid")]
    KeyInvalid,
    /// A rule of the data refused the change, such as a row that is gone.
    #[error("change the data: {0}")]
    Refused(&'static str),
}

impl StoreError {
    /// True if one command's output alone waits, with what comes behind it: whatever else its
    /// session writes is as good as before.
    pub(super) fn is_of_one_output(&self) -> bool {
        matches!(self, Self::OutputMissing | Self::Blob(BlobError::NoSpace))
    }
}

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        Self::Database(error)
    }
}
