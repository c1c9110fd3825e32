//! Releases: their signed documents, and the rules by which a host accepts one.
//!
//! Pure: uses no files, clock or network. [`verify`] is the only way from untrusted bytes to a
//! [`ReleaseDescriptor`] that may be used.

mod key;
mod platform;
mod program;
mod release_descriptor;
mod update;
mod verification;

pub use self::key::{InvalidKey, KeyChange, PublicKey, Signature, SigningKey};
pub use self::platform::{PROCESSORS, Platform, SYSTEMS};
pub use self::program::Program;
pub use self::release_descriptor::{
    FORMAT, MAX_DESCRIPTOR_BYTES, MAX_PROGRAM_BYTES, ProgramFile, ReleaseDescriptor,
};
pub use self::update::{
    NO_SPACE_EXIT, UPDATE_REQUEST_FILE, UPDATE_RESULT_FILE, UpdateOutcome, UpdateRequest,
    UpdateResult,
};
pub use self::verification::{
    MAX_KEY_CHANGES, ReleaseRequirements, VerifiedRelease, VerifyError, is_trusted_key, verify,
    verify_signature,
};
pub use semver::Version;

/// The capability of an agent that answers `update` and `redeploy` with an update result.
pub const CAPABILITY: &str = "releases";
