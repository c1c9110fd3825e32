//! How requests name a script of the library: `library:NAME`, or `library:NAME@VERSION`.

use std::fmt;

use super::MAX_VERSION_NUMBER;
use crate::commands::file_transfer::FileOperation;
use crate::manifest::is_script_name;
use crate::package::PackageReference;

/// Distinguishes scripts of the library from those of hosts' manifests, whose names have no colon.
pub const LIBRARY_PREFIX: &str = "library:";

/// A script of the library, and the version if it is not the current one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LibraryReference {
    pub name: String,
    pub version: Option<u32>,
}

impl LibraryReference {
    /// Reads `library:NAME` or `library:NAME@VERSION`; `None` for everything else.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(LIBRARY_PREFIX)?;
        let (name, version) = match rest.split_once('@') {
            Some((name, number)) => {
                let is_plain =
                    number.bytes().all(|byte| byte.is_ascii_digit()) && !number.starts_with('0');
                let number = number.parse().ok().filter(|_| is_plain)?;
                (name, Some(number))
            }
            None => (rest, None),
        };
        let is_valid = is_script_name(name)
            && version.is_none_or(|version| (1..=MAX_VERSION_NUMBER).contains(&version));
        is_valid.then(|| Self { name: name.to_owned(), version })
    }

    /// `library:NAME`, which limits, rules and the history name.
    pub fn full_name(&self) -> String {
        format!("{LIBRARY_PREFIX}{}", self.name)
    }
}

impl fmt::Display for LibraryReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{LIBRARY_PREFIX}{}", self.name)?;
        self.version.map_or(Ok(()), |version| write!(f, "@{version}"))
    }
}

/// True for the name of a script of a manifest, for `library:NAME` and `package:NAME` without a version, and
/// for transfers of files.
pub fn is_runnable_name(name: &str) -> bool {
    is_script_name(name)
        || FileOperation::of(name).is_some()
        || LibraryReference::parse(name).is_some_and(|reference| reference.version.is_none())
        || PackageReference::parse(name).is_some_and(|reference| reference.version.is_none())
}

/// What rules about scripts name the work by: a script of the library or a package without its version, and
/// every other text as it is.
pub fn ruled_name(script: &str) -> String {
    let library = LibraryReference::parse(script).map(|reference| reference.full_name());
    let package = || PackageReference::parse(script).map(|reference| reference.full_name());
    library.or_else(package).unwrap_or_else(|| script.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_names_a_script_and_perhaps_a_version_and_nothing_else() {
        let parsed = |text| LibraryReference::parse(text).map(|found| (found.name, found.version));
        assert_eq!(parsed("library:a.b-c_1"), Some(("a.b-c_1".into(), None)));
        assert_eq!(parsed("library:a@7"), Some(("a".into(), Some(7))));
        for wrong in [
            "a",
            "library:",
            "library:a@",
            "library:a@0",
            "library:a@07",
            "library:a@+7",
            "library:a@-1",
            "library:a@1000001",
            "library:a/b",
            "Library:a",
            "library:a@7@8",
            "library:library:a",
        ] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
        assert!(is_runnable_name("a") && is_runnable_name("library:a"));
        assert!(is_runnable_name("package:a") && !is_runnable_name("package:a@1"));
        assert!(!is_runnable_name("library:a@7") && !is_runnable_name("other:a"));
    }
}
