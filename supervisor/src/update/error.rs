//! Why an update request led to no trial.

use muster_protocol::release::UpdateOutcome;

use super::durable_file::FileError;
use super::package::PackageError;
use super::pins::PinError;

/// The reason why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    #[error(
        "this host has no pinned release key and did not reach the server over verified TLS; install with --release-key"
    )]
    NoKey,
    #[error("releases do not support this host's platform")]
    UnknownPlatform,
    #[error(transparent)]
    Pin(#[from] PinError),
    #[error(transparent)]
    Package(#[from] PackageError),
    #[error(
        "the release needs {needed_mib} MiB (64 MiB of it as reserve), but the disk with the agent's programs has {free_mib} MiB free; free space and request the update again"
    )]
    NoSpace { needed_mib: u64, free_mib: u64 },
    #[error("failed to install the release")]
    File(#[from] FileError),
}

impl UpdateError {
    /// A stable code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoKey => "untrusted_key",
            Self::UnknownPlatform => "wrong_platform",
            Self::Pin(_) => "bad_pin",
            Self::Package(error) => error.code(),
            Self::NoSpace { .. } => "no_space",
            Self::File(error) if error.is_no_space() => "no_space",
            Self::File(_) => "storage_failed",
        }
    }

    /// True if a program's bytes differ from the descriptor.
    pub fn is_content_mismatch(&self) -> bool {
        matches!(self.code(), "wrong_size" | "wrong_sum")
    }

    /// [`UpdateOutcome::Refused`] if the host's rules forbid the release, else
    /// [`UpdateOutcome::Failed`].
    pub fn outcome(&self) -> UpdateOutcome {
        match self.code() {
            "download_failed" | "no_space" | "storage_failed" => UpdateOutcome::Failed,
            _ => UpdateOutcome::Refused,
        }
    }
}
