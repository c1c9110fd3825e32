//! What a release consists of.

use std::collections::BTreeMap;

use semver::Version;
use serde::{Deserialize, Serialize};

use super::{FORMAT, MAX_PROGRAM_BYTES, Platform, Program};

/// What a release consists of. The bytes that were signed are kept and handed on as they are; this
/// is what they say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseManifest {
    /// [`FORMAT`].
    pub format: u32,
    pub version: Version,
    /// A host that has run this release takes none below it any more. At most `version`.
    pub floor: Version,
    /// RFC 3339, UTC; informs, decides nothing.
    pub created_at: String,
    /// The programs for each platform.
    pub targets: BTreeMap<Platform, Vec<ProgramFile>>,
}

/// One program for one platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramFile {
    pub name: Program,
    pub bytes: u64,
    /// 64 lower-case hex digits.
    pub sha256: String,
}

impl ReleaseManifest {
    /// Reads what was signed, without judging who signed it.
    ///
    /// # Errors
    /// A sentence on what is wrong with it.
    pub fn read(document: &[u8]) -> Result<Self, String> {
        if document.len() > super::MAX_MANIFEST_BYTES {
            return Err(format!("it has more than {} bytes", super::MAX_MANIFEST_BYTES));
        }
        let manifest: Self = serde_json::from_slice(document).map_err(|error| error.to_string())?;
        manifest.check().map(|()| manifest)
    }

    /// The programs for a platform; `None` if the release is not for it.
    pub fn files(&self, platform: Platform) -> Option<&[ProgramFile]> {
        self.targets.get(&platform).map(Vec::as_slice)
    }

    fn check(&self) -> Result<(), String> {
        if self.format != FORMAT {
            return Err(format!("its format is {}, and {FORMAT} is what can be read", self.format));
        }
        if self.floor > self.version {
            return Err(format!("its floor {} is above its version {}", self.floor, self.version));
        }
        if self.targets.is_empty() {
            return Err("it has no platform".into());
        }
        self.targets.iter().try_for_each(|(platform, files)| check_files(*platform, files))
    }
}

fn check_files(platform: Platform, files: &[ProgramFile]) -> Result<(), String> {
    for program in Program::ALL {
        if files.iter().filter(|file| file.name == program).count() != 1 {
            return Err(format!("{platform} has not one {}", program.file_name()));
        }
    }
    let is_sum = |text: &str| {
        text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    for file in files {
        let name = file.name.file_name();
        if !is_sum(&file.sha256) {
            return Err(format!("{name} of {platform} has a sha256 that is not 64 hex digits"));
        }
        if file.bytes == 0 || file.bytes > MAX_PROGRAM_BYTES {
            return Err(format!("{name} of {platform} has {} bytes", file.bytes));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn file(name: &str) -> Value {
        json!({"name": name, "bytes": 7, "sha256": "0".repeat(64)})
    }

    fn document() -> Value {
        json!({
            "format": 1, "version": "0.2.0", "floor": "0.1.0", "created_at": "2026-01-01T00:00:00Z",
            "targets": {"linux-x86_64": [file("muster-agent"), file("muster-supervisor")]},
        })
    }

    fn read(document: &Value) -> Result<ReleaseManifest, String> {
        ReleaseManifest::read(document.to_string().as_bytes())
    }

    #[test]
    fn a_manifest_survives_being_written_and_read() {
        let manifest = read(&document()).unwrap();
        assert_eq!(serde_json::to_value(&manifest).unwrap(), document());
        assert!(manifest.files(Platform::parse("linux-x86_64").unwrap()).is_some());
        assert!(manifest.files(Platform::parse("macos-x86_64").unwrap()).is_none());
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_sentence() {
        let wrong: [(&str, Value); 11] = [
            ("/format", json!(2)),
            ("/version", json!("2")),
            ("/version", json!("../../0.2.0")),
            ("/floor", json!("0.3.0")),
            ("/targets", json!({})),
            ("/targets", json!({"linux-vax": [file("muster-agent"), file("muster-supervisor")]})),
            ("/targets/linux-x86_64", json!([file("muster-agent")])),
            ("/targets/linux-x86_64", json!([file("muster-agent"), file("muster-agent")])),
            ("/targets/linux-x86_64/0/name", json!("../muster-agent")),
            ("/targets/linux-x86_64/0/sha256", json!("A".repeat(64))),
            ("/targets/linux-x86_64/0/bytes", json!(MAX_PROGRAM_BYTES + 1)),
        ];
        for (place, value) in wrong {
            let mut document = document();
            *document.pointer_mut(place).unwrap() = value.clone();
            assert!(read(&document).is_err(), "{place} {value}");
        }
        let mut more = document();
        more["more"] = json!(1);
        assert!(read(&more).is_err());
        assert!(ReleaseManifest::read(&vec![b' '; super::super::MAX_MANIFEST_BYTES + 1]).is_err());
    }
}
