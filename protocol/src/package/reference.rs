//! How requests name a package: `package:NAME`, or `package:NAME@VERSION`.

use std::fmt;

use super::is_package_version;
use crate::manifest::is_script_name;

/// Distinguishes packages from scripts of hosts' manifests and of the library.
pub const PACKAGE_PREFIX: &str = "package:";

/// A package, and the version if it is not the newest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageReference {
    pub name: String,
    pub version: Option<String>,
}

impl PackageReference {
    /// Reads `package:NAME` or `package:NAME@VERSION`; `None` for everything else.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(PACKAGE_PREFIX)?;
        let (name, version) = match rest.split_once('@') {
            Some((name, version)) => (name, Some(version)),
            None => (rest, None),
        };
        let is_valid = is_script_name(name) && version.is_none_or(is_package_version);
        is_valid.then(|| Self { name: name.to_owned(), version: version.map(str::to_owned) })
    }

    /// `package:NAME`, which limits, rules and the history name.
    pub fn full_name(&self) -> String {
        format!("{PACKAGE_PREFIX}{}", self.name)
    }
}

impl fmt::Display for PackageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PACKAGE_PREFIX}{}", self.name)?;
        self.version.as_ref().map_or(Ok(()), |version| write!(f, "@{version}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_names_a_package_and_perhaps_a_version_and_nothing_else() {
        let parsed = |text| PackageReference::parse(text).map(|found| found.to_string());
        for right in ["package:a.b-c_1", "package:a@1.2.0", "package:a@2026-11-23+4"] {
            assert_eq!(parsed(right).as_deref(), Some(right));
        }
        for wrong in [
            "a",
            "package:",
            "package:a@",
            "package:a@-1",
            "package:a/b",
            "Package:a",
            "package:a@1@2",
        ] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }
}
