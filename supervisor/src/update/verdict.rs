//! Why a wish led to no trial.

use muster_protocol::release::UpdateOutcome;

use super::durable::FileError;
use super::package::PackageError;
use super::pins::PinError;

/// Nothing was changed, for this reason.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    #[error(
        "this host has pinned no key that signs releases, and did not reach the server over verified TLS: install with --release-key"
    )]
    NoKey,
    #[error("there are no releases for this kind of host")]
    UnknownPlatform,
    #[error(transparent)]
    Pin(#[from] PinError),
    #[error(transparent)]
    Package(#[from] PackageError),
    #[error(
        "the release takes {needed_mib} MiB, 64 of them to spare, and the disk with the agent's programs has {free_mib} free: make room, and ask again"
    )]
    NoRoom { needed_mib: u64, free_mib: u64 },
    #[error("the release could not be put in place")]
    File(#[from] FileError),
}

impl NotTaken {
    /// A stable name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoKey => "untrusted_key",
            Self::UnknownPlatform => "wrong_platform",
            Self::Pin(_) => "bad_pin",
            Self::Package(error) => error.code(),
            Self::NoRoom { .. } => "no_space",
            Self::File(error) if error.is_no_space() => "no_space",
            Self::File(_) => "storage_failed",
        }
    }

    /// True if the programs are not what the manifest says.
    pub fn is_of_bytes(&self) -> bool {
        matches!(self.code(), "wrong_size" | "wrong_sum")
    }

    /// Whether the host forbids it, or it only did not come about.
    pub fn outcome(&self) -> UpdateOutcome {
        match self.code() {
            "download_failed" | "no_space" | "storage_failed" => UpdateOutcome::Failed,
            _ => UpdateOutcome::Refused,
        }
    }
}
