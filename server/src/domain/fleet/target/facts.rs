//! What is known of an agent when it is asked whether something is meant for it.

use crate::domain::fleet::agent::AgentLevel;
use crate::domain::ids::AgentId;

/// What is known of one agent.
///
/// Source: id and tags are the server's own; name is the host's until a person changes it; the
/// rest is what the host says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    pub id: AgentId,
    pub name: String,
    pub hostname: String,
    pub os: String,
    pub arch: String,
    pub version: String,
    pub level: AgentLevel,
    pub tags: Vec<String>,
    /// Connected at the moment of asking.
    pub is_online: bool,
}

/// A family of operating systems, and the words that tell it.
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
    /// `linux`, `macos` or `windows`; `None` if the text names none of them.
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
    fn families_are_told_from_what_agents_report() {
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
