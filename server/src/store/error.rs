//! Failures of storage.

use sea_orm::DbErr;

use super::blobs::BlobError;

/// Why a read or a write failed. Clients get no details.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    #[error("invalid database URL: {0}; use sqlite:PATH or postgres://USER@HOST/DATABASE")]
    Url(String),
    #[error("another muster-server is using this database; stop it first")]
    Locked,
    #[error(
        "a restore into this data directory did not end; run `muster-server restore` again, or empty the directory"
    )]
    RestoreUnfinished,
    #[error("the data directory cannot be used: {0}")]
    Directory(String),
    #[error("the database failed")]
    Database(#[source] DbErr),
    #[error("the database writer has stopped")]
    WriterStopped,
    /// A newer session of the same agent has replaced this one.
    #[error("a newer session of this agent has replaced this one")]
    StaleEpoch,
    /// Output before this chunk or report was not stored. Storing it would leave a gap, or an end
    /// before the output.
    #[error("output before this part was not stored")]
    OutputMissing,
    #[error("write to the database: its disk is full")]
    DiskFull,
    /// A file of output, beside the database.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The output was dropped to make room for newer output.
    #[error("the output was deleted to make room for newer output")]
    OutputDropped,
    /// The API key of the request was revoked or expired after the request was authenticated.
    #[error("change the data: the API key of the request is no longer valid")]
    KeyInvalid,
    /// The API key of the request presented the secret before its last rotation.
    #[error("manage API keys: the request presented the secret before the last rotation")]
    PreviousSecret,
    /// The session of the request ended after the request was authenticated.
    #[error("change the data: the session of the request has ended")]
    SessionEnded,
    /// New tags of an agent move it into or out of this target, and the request may not do that.
    #[error("change the tags: the agent would enter or leave the target of {0}")]
    TargetChanged(String),
    /// As many mails wait to be sent as may.
    #[error("too many mails wait to be sent")]
    TooManyMails,
    /// The data does not allow the change: for example, the row was deleted.
    #[error("the change was refused: {0}")]
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
