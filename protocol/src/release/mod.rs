//! Releases: what is signed, and the rules by which a host takes one.
//!
//! Pure: knows no files, no clock and no network. [`verify`] is the one way from bytes that came
//! from somewhere to a [`ReleaseManifest`] that may be acted on.

mod key;
mod platform;
mod program;
mod release_manifest;
mod update;
mod verification;

pub use self::key::{InvalidKey, KeyChange, PublicKey, Signature, SigningKey};
pub use self::platform::Platform;
pub use self::program::Program;
pub use self::release_manifest::{ProgramFile, ReleaseManifest};
pub use self::update::{
    NO_SPACE_EXIT, UPDATE_REQUEST_FILE, UPDATE_RESULT_FILE, UpdateOutcome, UpdateRequest,
    UpdateResult,
};
pub use self::verification::{
    ReleaseRequirements, VerifiedRelease, VerifyError, is_trusted_key, verify, verify_signature,
};
pub use semver::Version;

/// What an agent lists among its capabilities if it settles `update` and `redeploy` with a verdict.
pub const CAPABILITY: &str = "releases";
/// The form of manifests that this version writes, and the only one that it reads.
pub const FORMAT: u32 = 1;
/// Bytes of a manifest.
pub const MAX_MANIFEST_BYTES: usize = 64 * 1024;
/// Bytes of one program.
pub const MAX_PROGRAM_BYTES: u64 = 256 * 1024 * 1024;
/// Changes of the key that one release may bring.
pub const MAX_KEY_CHANGES: usize = 16;
