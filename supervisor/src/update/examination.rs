//! Whether a downloaded release may be installed here: the one judgement, for updates and for those
//! who install.

use std::path::Path;

use muster_protocol::release::{Platform, Verified, Version, Wish};

use super::package::{self, Package};
use super::{FLOOR_FILE, KEY_FILE, NotTaken, durable};

/// What a host holds releases against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// The fingerprint of the key that signs releases.
    pub pinned: Option<String>,
    /// Nothing below it.
    pub floor: Option<Version>,
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
    pub fn of(program: &Path) -> Self {
        Self {
            pinned: durable::read_line(&program.join(KEY_FILE)),
            floor: durable::read_line(&program.join(FLOOR_FILE)).and_then(|line| line.parse().ok()),
            is_any_key_good: false,
        }
    }
}

/// Judges what lies in a folder as it was downloaded. Changes nothing.
///
/// # Errors
/// [`NotTaken`]
pub fn examine(folder: &Path, version: &Version, trust: &Trust) -> Result<Examined, NotTaken> {
    let verified = judge(folder, version, trust)?;
    let floor = verified.manifest.floor;
    let floor = trust.floor.clone().map_or(floor.clone(), |known| known.max(floor));
    Ok(Examined { fingerprint: verified.key.fingerprint(), floor })
}

pub(super) fn judge(folder: &Path, version: &Version, trust: &Trust) -> Result<Verified, NotTaken> {
    let platform = Platform::own().ok_or(NotTaken::UnknownPlatform)?;
    let wish = Wish {
        version,
        platform,
        floor: trust.floor.as_ref(),
        fingerprint: trust.pinned.as_deref(),
    };
    let package = Package::read(folder)?;
    if trust.pinned.is_none() && !package.is_way_verified && !trust.is_any_key_good {
        return Err(NotTaken::NoKey);
    }
    let verified = package.verify(&wish)?;
    package::check_programs(folder, &verified)?;
    Ok(verified)
}
