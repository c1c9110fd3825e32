//! What a program was built for: an operating system and a processor.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const SYSTEMS: [&str; 3] = ["linux", "macos", "windows"];
const PROCESSORS: [&str; 7] =
    ["x86_64", "aarch64", "armv7", "i686", "riscv64", "powerpc64le", "s390x"];

/// One of the known platforms, written `linux-x86_64`. Safe as part of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Platform {
    system: &'static str,
    processor: &'static str,
}

impl Platform {
    /// Reads `<system>-<processor>`; `None` if one of them is not known.
    pub fn parse(text: &str) -> Option<Self> {
        let (system, processor) = text.split_once('-')?;
        Some(Self {
            system: SYSTEMS.into_iter().find(|known| *known == system)?,
            processor: PROCESSORS.into_iter().find(|known| *known == processor)?,
        })
    }

    /// Every platform there may be.
    pub fn all() -> impl Iterator<Item = Self> {
        SYSTEMS.into_iter().flat_map(|system| {
            PROCESSORS.into_iter().map(move |processor| Self { system, processor })
        })
    }

    /// What this program itself was built for; `None` on a platform that has no name here.
    pub fn own() -> Option<Self> {
        Self::parse(&format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH))
    }
}

impl Serialize for Platform {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Platform {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text)
            .ok_or_else(|| de::Error::custom(format_args!("there is no platform `{text}`")))
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.system, self.processor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_platform_is_read_back_from_its_name() {
        for platform in Platform::all() {
            assert_eq!(Platform::parse(&platform.to_string()), Some(platform));
        }
    }

    #[test]
    fn what_is_no_platform_is_not_read() {
        for text in ["", "linux", "linux-", "-x86_64", "linux-x86_64/..", "../..", "linux-X86_64"] {
            assert_eq!(Platform::parse(text), None, "{text}");
        }
    }

    #[test]
    fn this_program_knows_what_it_was_built_for() {
        assert!(Platform::own().is_some());
    }
}
