//! The descriptor of a release.

use std::collections::BTreeMap;

use semver::Version;
use serde::{Deserialize, Serialize};

use super::platform::Platform;
use super::program::Program;

/// The descriptor format that this version writes, and the only one that it reads.
pub const FORMAT: u32 = 1;
/// Largest descriptor, in bytes.
pub const MAX_DESCRIPTOR_BYTES: usize = 64 * 1024;
/// Largest program, in bytes.
pub const MAX_PROGRAM_BYTES: u64 = 256 * 1024 * 1024;

/// The content of a release. The signed bytes are stored and passed on unchanged; this is their
/// parsed form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseDescriptor {
    /// [`FORMAT`].
    pub format: u32,
    pub version: Version,
    /// A host that has verified this release accepts no version below the floor any more. At most
    /// `version`.
    pub floor: Version,
    /// RFC 3339, UTC. For information only.
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

impl ReleaseDescriptor {
    /// Parses a descriptor without checking its signature.
    ///
    /// # Errors
    /// A message that says what is wrong.
    pub fn read(document: &[u8]) -> Result<Self, String> {
        if document.len() > MAX_DESCRIPTOR_BYTES {
            return Err(format!("the descriptor has more than {} bytes", MAX_DESCRIPTOR_BYTES));
        }
        let descriptor: Self =
            serde_json::from_slice(document).map_err(|error| error.to_string())?;
        descriptor.check().map(|()| descriptor)
    }

    /// The programs for a platform; `None` if the release does not support it.
    pub fn files(&self, platform: Platform) -> Option<&[ProgramFile]> {
        self.targets.get(&platform).map(Vec::as_slice)
    }

    fn check(&self) -> Result<(), String> {
        if self.format != FORMAT {
            return Err(format!("the format is {}, but only {FORMAT} is supported", self.format));
        }
        if self.floor > self.version {
            return Err(format!("the floor {} is above the version {}", self.floor, self.version));
        }
        if self.targets.is_empty() {
            return Err("the descriptor lists no platform".into());
        }
        self.targets.iter().try_for_each(|(platform, files)| check_files(*platform, files))
    }
}

fn check_files(platform: Platform, files: &[ProgramFile]) -> Result<(), String> {
    for program in Program::ALL {
        if files.iter().filter(|file| file.name == program).count() != 1 {
            return Err(format!("{platform} must have exactly one {}", program.file_name()));
        }
    }
    let is_sum = |text: &str| {
        text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    for file in files {
        let name = file.name.file_name();
        if !is_sum(&file.sha256) {
            return Err(format!("the sha256 of {name} for {platform} must be 64 hex digits"));
        }
        if file.bytes == 0 || file.bytes > MAX_PROGRAM_BYTES {
            return Err(format!(
                "the size of {name} for {platform} is out of range: {} bytes",
                file.bytes
            ));
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

    fn read(document: &Value) -> Result<ReleaseDescriptor, String> {
        ReleaseDescriptor::read(document.to_string().as_bytes())
    }

    #[test]
    fn descriptor_round_trips() {
        let descriptor = read(&document()).unwrap();
        assert_eq!(serde_json::to_value(&descriptor).unwrap(), document());
        assert!(descriptor.files(Platform::parse("linux-x86_64").unwrap()).is_some());
        assert!(descriptor.files(Platform::parse("macos-x86_64").unwrap()).is_none());
    }

    #[test]
    fn invalid_descriptors_are_rejected_with_a_message() {
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
        assert!(ReleaseDescriptor::read(&vec![b' '; MAX_DESCRIPTOR_BYTES + 1]).is_err());
    }
}
