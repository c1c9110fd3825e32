//! Whether a host takes a release.

use semver::Version;

use super::{KeyChange, MAX_KEY_CHANGES, Manifest, Platform, ProgramFile, PublicKey, Signature};

/// What a host is ready to take.
#[derive(Debug, Clone)]
pub struct Wish<'a> {
    /// The version that was asked for, and no other.
    pub version: &'a Version,
    pub platform: Platform,
    /// The highest floor of the releases that it has run.
    pub floor: Option<&'a Version>,
    /// The fingerprint that it has pinned; `None` takes whatever key comes first.
    pub fingerprint: Option<&'a str>,
}

/// A release that may be installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    pub manifest: Manifest,
    /// Of this platform.
    pub files: Vec<ProgramFile>,
    /// Who signed it: what the host pins from now on.
    pub key: PublicKey,
}

/// Why a release is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the release's manifest makes no sense: {0}")]
    Manifest(String),
    #[error("the release's signature is not of its manifest: it was altered, or signed wrongly")]
    Signature,
    #[error(
        "the release is signed by the key {key}, and this host trusts {pinned}: publish a statement of the old key, or install with --release-key"
    )]
    Key { key: String, pinned: String },
    #[error("version {wanted} was asked for, and the release is {found}")]
    Version { wanted: Version, found: Version },
    #[error("the release has no programs for {0}")]
    Platform(Platform),
    #[error(
        "version {found} is below {floor}, and nothing below that may be installed here any more"
    )]
    Floor { found: Version, floor: Version },
}

impl Refusal {
    /// A stable name.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Manifest(_) => "bad_manifest",
            Self::Signature => "bad_signature",
            Self::Key { .. } => "untrusted_key",
            Self::Version { .. } => "wrong_version",
            Self::Platform(_) => "wrong_platform",
            Self::Floor { .. } => "below_floor",
        }
    }
}

/// Judges a release: `document` is the manifest as it was signed.
///
/// # Errors
/// [`Refusal`], the first that applies; nothing of the release may be used then.
pub fn verify(
    document: &[u8],
    signature: &Signature,
    changes: &[KeyChange],
    wish: &Wish<'_>,
) -> Result<Verified, Refusal> {
    let manifest = verify_signature(document, signature)?;
    if let Some(pinned) = wish.fingerprint
        && !leads_to(pinned, changes, signature.key)
    {
        let key = signature.key.fingerprint();
        return Err(Refusal::Key { key, pinned: pinned.to_owned() });
    }
    let found = manifest.version.clone();
    if found != *wish.version {
        return Err(Refusal::Version { wanted: wish.version.clone(), found });
    }
    if let Some(floor) = wish.floor.filter(|floor| found < **floor) {
        return Err(Refusal::Floor { found, floor: floor.clone() });
    }
    let files = manifest.files(wish.platform).ok_or(Refusal::Platform(wish.platform))?.to_vec();
    Ok(Verified { manifest, files, key: signature.key })
}

/// Judges whether a manifest makes sense and is what its signature is of; by whom is not judged.
///
/// # Errors
/// [`Refusal::Signature`], [`Refusal::Manifest`].
pub fn verify_signature(document: &[u8], signature: &Signature) -> Result<Manifest, Refusal> {
    if !signature.is_of(document) {
        return Err(Refusal::Signature);
    }
    Manifest::read(document).map_err(Refusal::Manifest)
}

/// True if statements lead from the pinned key, named by its fingerprint, to this one, each signed by
/// the one before.
pub fn leads_to(pinned: &str, changes: &[KeyChange], key: PublicKey) -> bool {
    let mut trusted = pinned.to_owned();
    for _ in 0..=MAX_KEY_CHANGES {
        if trusted == key.fingerprint() {
            return true;
        }
        let next = changes
            .iter()
            .take(MAX_KEY_CHANGES)
            .find(|change| change.old.fingerprint() == trusted && change.is_true());
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

    fn judge(
        key: &SigningKey,
        version: &str,
        changes: &[KeyChange],
        wish: &Wish<'_>,
    ) -> Result<Verified, &'static str> {
        let document = document(version);
        let signature = key.sign(&document).unwrap();
        verify(&document, &signature, changes, wish).map_err(|refusal| refusal.code())
    }

    #[test]
    fn only_the_release_that_was_asked_for_is_taken() {
        let (key, wanted) = (key(), Version::new(0, 2, 0));
        let pinned = key.public().unwrap().fingerprint();
        let wish = Wish {
            version: &wanted,
            platform: platform(),
            floor: None,
            fingerprint: Some(&pinned),
        };
        assert_eq!(judge(&key, "0.2.0", &[], &wish).unwrap().files.len(), 2);
        assert_eq!(judge(&key, "0.2.1", &[], &wish), Err("wrong_version"));
        assert_eq!(judge(&key, "nonsense", &[], &wish), Err("bad_manifest"));
        let elsewhere = Wish { platform: Platform::parse("linux-s390x").unwrap(), ..wish.clone() };
        assert_eq!(judge(&key, "0.2.0", &[], &elsewhere), Err("wrong_platform"));
        let floor = Version::new(0, 2, 1);
        let above = Wish { floor: Some(&floor), ..wish.clone() };
        assert_eq!(judge(&key, "0.2.0", &[], &above), Err("below_floor"));

        let mut altered = document("0.2.0");
        let signature = key.sign(&altered).unwrap();
        altered.push(b' ');
        let refusal = verify(&altered, &signature, &[], &wish).unwrap_err();
        assert_eq!(refusal.code(), "bad_signature");
    }

    #[test]
    fn a_new_key_needs_the_word_of_the_old_one() {
        let (one, two, three) = (key(), key(), key());
        let wanted = Version::new(0, 2, 0);
        let pinned = one.public().unwrap().fingerprint();
        let wish = Wish {
            version: &wanted,
            platform: platform(),
            floor: None,
            fingerprint: Some(&pinned),
        };
        let first = one.hand_over_to(two.public().unwrap()).unwrap();
        let second = two.hand_over_to(three.public().unwrap()).unwrap();
        let both = [second.clone(), first.clone()];
        assert!(judge(&three, "0.2.0", &both, &wish).is_ok());
        assert_eq!(judge(&three, "0.2.0", &[second], &wish), Err("untrusted_key"));
        assert_eq!(judge(&two, "0.2.0", &[], &wish), Err("untrusted_key"));

        let forged = KeyChange { new: three.public().unwrap(), ..first };
        assert_eq!(judge(&three, "0.2.0", &[forged], &wish), Err("untrusted_key"));
        let round = [
            one.hand_over_to(two.public().unwrap()).unwrap(),
            two.hand_over_to(one.public().unwrap()).unwrap(),
        ];
        assert_eq!(judge(&three, "0.2.0", &round, &wish), Err("untrusted_key"));
        let first_use = Wish { fingerprint: None, ..wish };
        assert!(judge(&three, "0.2.0", &[], &first_use).is_ok());
    }
}
