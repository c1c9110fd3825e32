//! Why a host refuses a transfer of a file.

use muster_protocol::commands::file_transfer::{FileOperation, FileTransferError};

/// Why a transfer is refused. The messages are shown to the person who sent it.
#[derive(Debug, thiserror::Error)]
pub enum FileRefusal {
    #[error("the data of a transfer is invalid: {0}")]
    Malformed(String),
    #[error(transparent)]
    Invalid(#[from] FileTransferError),
    #[error(
        "the host's policy allows no files to be {}; list folders in `files.{}` of policy.json on the host",
        done(*.0), field(*.0)
    )]
    NotAllowed(FileOperation),
    #[error(
        "`{path}` is in no folder of `files.{}` in policy.json on the host; use another path, or list its folder there",
        field(*.operation)
    )]
    Outside { path: String, operation: FileOperation },
    #[error(
        "the file has {bytes} bytes, and the host's policy allows {most_bytes}; raise `files.max_bytes` in policy.json on the host"
    )]
    TooLarge { bytes: u64, most_bytes: u64 },
    #[error(
        "the host's policy allows the permissions {most:04o} at most; ask for fewer, or raise `files.max_mode` in policy.json on the host"
    )]
    Mode { most: u32 },
    #[error(
        "the host's policy lets no file be given to `{0}`; add the user to `files.owners` in policy.json on the host"
    )]
    Owner(String),
}

impl FileRefusal {
    /// The stable code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) | Self::Invalid(_) => "invalid_data",
            Self::NotAllowed(_) => "files_not_allowed",
            Self::Outside { .. } => "path_not_allowed",
            Self::TooLarge { .. } => "file_too_large",
            Self::Mode { .. } => "mode_not_allowed",
            Self::Owner(_) => "owner_not_allowed",
        }
    }
}

fn done(operation: FileOperation) -> &'static str {
    match operation {
        FileOperation::Push => "written",
        FileOperation::Pull => "read",
    }
}

fn field(operation: FileOperation) -> &'static str {
    match operation {
        FileOperation::Push => "write",
        FileOperation::Pull => "read",
    }
}
