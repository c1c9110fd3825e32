//! Verifies that a host may install a release.

use semver::Version;

use super::key::{KeyChange, PublicKey, Signature};
use super::platform::Platform;
use super::release_descriptor::{ProgramFile, ReleaseDescriptor};

/// Most key changes of one release.
pub const MAX_KEY_CHANGES: usize = 16;

/// What a host requires of a release.
#[derive(Debug, Clone)]
pub struct ReleaseRequirements<'a> {
    /// The requested version.
    pub version: &'a Version,
    pub platform: Platform,
    /// The highest floor of the releases that the host has verified.
    pub floor: Option<&'a Version>,
    /// The fingerprint of the pinned key; `None` accepts any key.
    pub fingerprint: Option<&'a str>,
}

/// A release that may be installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedRelease {
    pub descriptor: ReleaseDescriptor,
    /// The programs for the host's platform.
    pub files: Vec<ProgramFile>,
    /// The key that signed it, which the host pins from now on.
    pub key: PublicKey,
}

/// Why a release is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    #[error("the release's descriptor is invalid: {0}")]
    Descriptor(String),
    #[error("the release's signature does not match its descriptor")]
    Signature,
    #[error(
        "the release is signed by the key {key}, but this host trusts {pinned}; publish a key change signed by the old key, or install with --release-key"
    )]
    Key { key: String, pinned: String },
    #[error("version {wanted} was requested, but the release is {found}")]
    Version { wanted: Version, found: Version },
    #[error("the release does not support {0}")]
    Platform(Platform),
    #[error("version {found} is below {floor}, the lowest version that this host accepts")]
    Floor { found: Version, floor: Version },
}

impl VerifyError {
    /// A stable code for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Descriptor(_) => "bad_manifest",
            Self::Signature => "bad_signature",
            Self::Key { .. } => "untrusted_key",
            Self::Version { .. } => "wrong_version",
            Self::Platform(_) => "wrong_platform",
            Self::Floor { .. } => "below_floor",
        }
    }
}

/// Verifies a release; `document` is the descriptor as it was signed.
///
/// # Errors
/// [`VerifyError`], the first that applies; the release must not be used.
pub fn verify(
    document: &[u8],
    signature: &Signature,
    changes: &[KeyChange],
    requirements: &ReleaseRequirements<'_>,
) -> Result<VerifiedRelease, VerifyError> {
    let descriptor = verify_signature(document, signature)?;
    if let Some(pinned) = requirements.fingerprint
        && !is_trusted_key(pinned, changes, signature.key)
    {
        let key = signature.key.fingerprint();
        return Err(VerifyError::Key { key, pinned: pinned.to_owned() });
    }
    let found = descriptor.version.clone();
    if found != *requirements.version {
        return Err(VerifyError::Version { wanted: requirements.version.clone(), found });
    }
    if let Some(floor) = requirements.floor.filter(|floor| found < **floor) {
        return Err(VerifyError::Floor { found, floor: floor.clone() });
    }
    let files = descriptor
        .files(requirements.platform)
        .ok_or(VerifyError::Platform(requirements.platform))?
        .to_vec();
    Ok(VerifiedRelease { descriptor, files, key: signature.key })
}

/// Verifies that a descriptor is valid and matches its signature. Does not check whether the key is
/// trusted.
///
/// # Errors
/// [`VerifyError::Signature`], [`VerifyError::Descriptor`].
pub fn verify_signature(
    document: &[u8],
    signature: &Signature,
) -> Result<ReleaseDescriptor, VerifyError> {
    if !signature.is_of(document) {
        return Err(VerifyError::Signature);
    }
    ReleaseDescriptor::read(document).map_err(VerifyError::Descriptor)
}

/// True if a chain of key changes, each signed by the previous key, leads from the pinned key
/// (given as fingerprint) to this key.
pub fn is_trusted_key(pinned: &str, changes: &[KeyChange], key: PublicKey) -> bool {
    let mut trusted = pinned.to_owned();
    for _ in 0..=MAX_KEY_CHANGES {
        if trusted == key.fingerprint() {
            return true;
        }
        let next = changes
            .iter()
            .take(MAX_KEY_CHANGES)
            .find(|change| change.old.fingerprint() == trusted && change.is_valid());
        match next {
            Some(change) => trusted = change.new.fingerprint(),
            None => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::SigningKey;
    use serde_json::json;

    fn key() -> SigningKey {
        SigningKey::read(&SigningKey::generate().unwrap()).unwrap()
    }

    fn platform() -> Platform {
        Platform::parse("linux-x86_64").unwrap()
    }

    fn document(version: &str) -> Vec<u8> {
        let file = |name| json!({"name": name, "bytes": 7, "sha256": "0".repeat(64)});
        let text = json!({
            "format": 1, "version": version, "floor": "0.1.0", "created_at": "",
            "targets": {"linux-x86_64": [file("muster-agent"), file("muster-supervisor")]},
        });
        text.to_string().into_bytes()
    }

    fn verify_signed(
        key: &SigningKey,
        version: &str,
        changes: &[KeyChange],
        requirements: &ReleaseRequirements<'_>,
    ) -> Result<VerifiedRelease, &'static str> {
        let document = document(version);
        let signature = key.sign(&document).unwrap();
        verify(&document, &signature, changes, requirements).map_err(|refusal| refusal.code())
    }

    #[test]
    fn only_the_requested_release_is_accepted() {
        let (key, wanted) = (key(), Version::new(0, 2, 0));
        let pinned = key.public().unwrap().fingerprint();
        let requirements = ReleaseRequirements {
            version: &wanted,
            platform: platform(),
            floor: None,
            fingerprint: Some(&pinned),
        };
        assert_eq!(verify_signed(&key, "0.2.0", &[], &requirements).unwrap().files.len(), 2);
        assert_eq!(verify_signed(&key, "0.2.1", &[], &requirements), Err("wrong_version"));
        assert_eq!(verify_signed(&key, "nonsense", &[], &requirements), Err("bad_manifest"));
        let elsewhere = ReleaseRequirements {
            platform: Platform::parse("linux-s390x").unwrap(),
            ..requirements.clone()
        };
        assert_eq!(verify_signed(&key, "0.2.0", &[], &elsewhere), Err("wrong_platform"));
        let floor = Version::new(0, 2, 1);
        let above = ReleaseRequirements { floor: Some(&floor), ..requirements.clone() };
        assert_eq!(verify_signed(&key, "0.2.0", &[], &above), Err("below_floor"));

        let mut altered = document("0.2.0");
        let signature = key.sign(&altered).unwrap();
        altered.push(b' ');
        let refusal = verify(&altered, &signature, &[], &requirements).unwrap_err();
        assert_eq!(refusal.code(), "bad_signature");
    }

    #[test]
    fn new_key_needs_a_key_change_signed_by_the_old_key() {
        let (one, two, three) = (key(), key(), key());
        let wanted = Version::new(0, 2, 0);
        let pinned = one.public().unwrap().fingerprint();
        let requirements = ReleaseRequirements {
            version: &wanted,
            platform: platform(),
            floor: None,
            fingerprint: Some(&pinned),
        };
        let first = one.sign_key_change(two.public().unwrap()).unwrap();
        let second = two.sign_key_change(three.public().unwrap()).unwrap();
        let both = [second.clone(), first.clone()];
        assert!(verify_signed(&three, "0.2.0", &both, &requirements).is_ok());
        assert_eq!(verify_signed(&three, "0.2.0", &[second], &requirements), Err("untrusted_key"));
        assert_eq!(verify_signed(&two, "0.2.0", &[], &requirements), Err("untrusted_key"));

        let forged = KeyChange { new: three.public().unwrap(), ..first };
        assert_eq!(verify_signed(&three, "0.2.0", &[forged], &requirements), Err("untrusted_key"));
        let round = [
            one.sign_key_change(two.public().unwrap()).unwrap(),
            two.sign_key_change(one.public().unwrap()).unwrap(),
        ];
        assert_eq!(verify_signed(&three, "0.2.0", &round, &requirements), Err("untrusted_key"));
        let first_use = ReleaseRequirements { fingerprint: None, ..requirements };
        assert!(verify_signed(&three, "0.2.0", &[], &first_use).is_ok());
    }
}
