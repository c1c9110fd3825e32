//! Verifies a downloaded release, for updates and for installers.

use std::path::Path;

use muster_protocol::release::{Platform, ReleaseRequirements, VerifiedRelease, Version};

use super::error::UpdateError;
use super::package::{self, Package};
use super::pins::{PinError, Pins};

/// What a host requires of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustPolicy {
    /// The trusted key, and the lowest version that is accepted.
    pub pins: Pins,
    /// Without a pinned key: accept any key, even if the download was not authenticated by TLS.
    pub accepts_any_key: bool,
}

/// A release that may be installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedRelease {
    /// The fingerprint of its key, which is pinned once it is installed.
    pub fingerprint: String,
    /// The floor once it is installed.
    pub floor: Version,
}

impl TrustPolicy {
    /// The policy of the installation in this program folder, which may not exist yet.
    ///
    /// # Errors
    /// [`PinError`]; nothing may be installed.
    pub fn of(program: &Path) -> Result<Self, PinError> {
        Ok(Self { pins: Pins::read(program)?, accepts_any_key: false })
    }
}

/// Verifies the documents and programs in a download folder. Changes nothing.
///
/// # Errors
/// [`UpdateError`]
pub fn verify_download(
    folder: &Path,
    version: &Version,
    trust: &TrustPolicy,
) -> Result<AcceptedRelease, UpdateError> {
    let verified = verify_documents(folder, version, trust)?;
    package::check_programs(folder, &verified)?;
    let floor = verified.descriptor.floor;
    let floor = trust.pins.floor.clone().map_or(floor.clone(), |known| known.max(floor));
    Ok(AcceptedRelease { fingerprint: verified.key.fingerprint(), floor })
}

/// Verifies only the documents, before any program is downloaded.
///
/// # Errors
/// [`UpdateError`]
pub(super) fn verify_documents(
    folder: &Path,
    version: &Version,
    trust: &TrustPolicy,
) -> Result<VerifiedRelease, UpdateError> {
    let platform = Platform::own().ok_or(UpdateError::UnknownPlatform)?;
    let Pins { fingerprint, floor } = &trust.pins;
    let package = Package::read(folder)?;
    if fingerprint.is_none() && !package.is_transport_verified && !trust.accepts_any_key {
        return Err(UpdateError::NoKey);
    }
    let (floor, fingerprint) = (floor.as_ref(), fingerprint.as_deref());
    Ok(package.verify(&ReleaseRequirements { version, platform, floor, fingerprint })?)
}
