//! Facts about an agent that targets can match.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::fleet::agent::AgentLevel;
use crate::domain::ids::AgentId;

/// Names of facts that hosts report, as targets use them.
pub type FactNames = BTreeSet<String>;
/// Facts that a host reports, by name. A fact can have several values.
pub type HostFacts = BTreeMap<String, Vec<String>>;

/// Facts about one agent.
///
/// Source: the server sets id and tags. The host sets the name until a person changes it. The host
/// reports everything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    pub id: AgentId,
    pub name: String,
    pub hostname: String,
    pub os: String,
    pub arch: String,
    /// What starts the agent; empty if it is not known.
    pub service_manager: String,
    pub version: String,
    pub level: AgentLevel,
    pub tags: Vec<String>,
    /// Connected when the target was resolved.
    pub is_online: bool,
    /// What the host reports beside that: at least the facts that the target names.
    pub host: HostFacts,
}

/// A family of operating systems, and the words that identify it.
const FAMILIES: [(&str, &[&str]); 3] = [
    (
        "linux",
        &[
            "linux",
            "almalinux",
            "alpine",
            "centos",
            "debian",
            "fedora",
            "nixos",
            "opensuse",
            "raspbian",
            "rhel",
            "rocky",
            "sles",
            "ubuntu",
        ],
    ),
    ("macos", &["macos", "mac", "darwin"]),
    ("windows", &["windows"]),
];

impl Facts {
    /// `linux`, `macos` or `windows`; `None` if the text contains none of them.
    pub fn os_family(&self) -> Option<&'static str> {
        let words = || self.os.split(|c: char| !c.is_alphanumeric());
        let is_of = |known: &[&str]| {
            words().any(|word| known.iter().any(|known| word.eq_ignore_ascii_case(known)))
        };
        FAMILIES.into_iter().find(|(_, words)| is_of(words)).map(|(family, _)| family)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fleet::target::samples::facts;

    #[test]
    fn the_os_family_is_found_in_what_agents_report() {
        for (os, family) in [
            ("Linux 6.8.0-45-generic", Some("linux")),
            ("Debian GNU/Linux 12", Some("linux")),
            ("Ubuntu 22.04", Some("linux")),
            ("Darwin 23.1.0", Some("macos")),
            ("Windows Server 2022", Some("windows")),
            ("FreeBSD 14", None),
            ("", None),
        ] {
            assert_eq!(Facts { os: os.into(), ..facts("a") }.os_family(), family, "{os}");
        }
    }
}
