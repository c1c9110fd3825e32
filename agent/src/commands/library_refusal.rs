//! Why a script of the library, or a package, is refused, with stable codes.

use muster_protocol::library::{ContentError, SignatureError};
use muster_protocol::package::PackageContentError;

/// The code of a version that a publisher has signed, but not until now.
pub const SIGNATURE_EXPIRED: &str = "signature_expired";

/// Why the library's script is refused, beside the reasons that any `execute` has.
#[derive(Debug, thiserror::Error)]
pub enum LibraryRefusal {
    #[error(transparent)]
    Content(#[from] ContentError),
    #[error(
        "the policy of this host asks for the signature of one of its publishers: {0}; sign the version with `muster publisher sign`"
    )]
    Signature(#[from] SignatureError),
    #[error(
        "a publisher has stated that version {minimum} is the oldest of `{name}` that this host may run; run a newer one, or save the content as a new version and sign it"
    )]
    Outdated { name: String, minimum: u32 },
    #[error(transparent)]
    Package(#[from] PackageContentError),
    #[error(
        "a publisher has stated that this version of the package `{0}` is too old for this host; run a newer one, or sign this one again with `muster publisher sign --newest`"
    )]
    OutdatedPackage(String),
}

impl LibraryRefusal {
    /// The stable code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Content(error) => error.code(),
            Self::Package(error) => error.code(),
            Self::Signature(SignatureError::Expired) => SIGNATURE_EXPIRED,
            Self::Signature(_) => "publisher_required",
            Self::Outdated { .. } | Self::OutdatedPackage(_) => "version_outdated",
        }
    }
}
