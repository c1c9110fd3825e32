//! The platform of a program: an operating system and a processor.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The operating systems of platforms.
pub const SYSTEMS: [&str; 3] = ["linux", "macos", "windows"];
/// The processors of platforms.
pub const PROCESSORS: [&str; 7] =
    ["x86_64", "aarch64", "armv7", "i686", "riscv64", "powerpc64le", "s390x"];

/// One of the known platforms, written `linux-x86_64`. Safe as part of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Platform {
    system: &'static str,
    processor: &'static str,
}

impl Platform {
    /// Parses `<system>-<processor>`; `None` if one of them is unknown.
    pub fn parse(text: &str) -> Option<Self> {
        let (system, processor) = text.split_once('-')?;
        Some(Self {
            system: SYSTEMS.into_iter().find(|known| *known == system)?,
            processor: PROCESSORS.into_iter().find(|known| *known == processor)?,
        })
    }

    /// Every known platform.
    pub fn all() -> impl Iterator<Item = Self> {
        SYSTEMS.into_iter().flat_map(|system| {
            PROCESSORS.into_iter().map(move |processor| Self { system, processor })
        })
    }

    /// The platform of this program; `None` if it has no name here.
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
            .ok_or_else(|| de::Error::custom(format_args!("unknown platform `{text}`")))
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
    fn every_platform_round_trips() {
        for platform in Platform::all() {
            assert_eq!(Platform::parse(&platform.to_string()), Some(platform));
        }
    }

    #[test]
    fn unknown_platforms_are_rejected() {
        for text in ["", "linux", "linux-", "-x86_64", "linux-x86_64/..", "../..", "linux-X86_64"] {
            assert_eq!(Platform::parse(text), None, "{text}");
        }
    }

    #[test]
    fn own_platform_is_known() {
        assert!(Platform::own().is_some());
    }
}
