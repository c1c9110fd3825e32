//! Whether a downloaded release may be installed here: the one judgement, for updates and for those
//! who install.

use std::path::Path;

use muster_protocol::release::{Platform, ReleaseRequirements, VerifiedRelease, Version};

use super::package::{self, Package};
use super::{NotTaken, PinError, Pins};

/// What a host holds releases against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// The key that signs releases, and the version below which none is taken.
    pub pins: Pins,
    /// Without a pinned key: whatever key has signed is as good as any, however it came here.
    pub is_any_key_good: bool,
}

/// A release that may be installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// Of the key that has signed it: what is pinned once it is installed.
    pub fingerprint: String,
    /// What the floor is once it is installed.
    pub floor: Version,
}

impl Trust {
    /// Of the installation in this program folder, which may be none yet.
    ///
    /// # Errors
    /// [`PinError`]; nothing may be installed then.
    pub fn of(program: &Path) -> Result<Self, PinError> {
        Ok(Self { pins: Pins::read(program)?, is_any_key_good: false })
    }
}

/// Judges what lies in a folder as it was downloaded. Changes nothing.
///
/// # Errors
/// [`NotTaken`]
pub fn examine(folder: &Path, version: &Version, trust: &Trust) -> Result<Examined, NotTaken> {
    let verified = judge_documents(folder, version, trust)?;
    package::check_programs(folder, &verified)?;
    let floor = verified.manifest.floor;
    let floor = trust.pins.floor.clone().map_or(floor.clone(), |known| known.max(floor));
    Ok(Examined { fingerprint: verified.key.fingerprint(), floor })
}

/// Judges the documents alone, before any program is fetched on their word.
///
/// # Errors
/// [`NotTaken`]
pub(super) fn judge_documents(
    folder: &Path,
    version: &Version,
    trust: &Trust,
) -> Result<VerifiedRelease, NotTaken> {
    let platform = Platform::own().ok_or(NotTaken::UnknownPlatform)?;
    let Pins { fingerprint, floor } = &trust.pins;
    let package = Package::read(folder)?;
    if fingerprint.is_none() && !package.is_way_verified && !trust.is_any_key_good {
        return Err(NotTaken::NoKey);
    }
    let (floor, fingerprint) = (floor.as_ref(), fingerprint.as_deref());
    Ok(package.verify(&ReleaseRequirements { version, platform, floor, fingerprint })?)
}
