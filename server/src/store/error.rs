//! Failures of storage.

use sea_orm::DbErr;

use super::blobs::BlobError;

/// Why a read or a write failed. Clients get no details.
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
    /// A newer session of the same agent has replaced this one.
    #[error("write for a session that a newer one has replaced")]
    StaleEpoch,
    /// Output before this chunk or report was not stored. Storing it would leave a gap, or an end
    /// before the output.
    #[error("store what comes behind output that was not stored")]
    OutputMissing,
    /// A file of output, beside the database.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The output was dropped to make room for newer output.
    #[error("read output that was dropped to make room for newer output")]
    OutputDropped,
    /// The data does not allow the change: for example, the row was deleted.
    #[error("change the data: {0}")]
    Refused(&'static str),
}

impl StoreError {
    /// True if the error concerns only the output of one command and what follows that output.
    /// Other writes of its session are not affected.
    pub(super) fn is_of_one_output(&self) -> bool {
        matches!(self, Self::OutputMissing | Self::Blob(BlobError::NoSpace))
    }
}

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        Self::Database(error)
    }
}
