//! Which files of this host the server may read and write: `files` of a policy.

use std::collections::BTreeSet;

use muster_protocol::commands::file_transfer::{
    DEFAULT_MODE, FileOperation, MAX_FILE_BYTES, is_file_path, is_user_name, mode_bits,
};
use serde::Deserialize;

/// Most folders of one kind.
const MAX_ROOTS: usize = 16;
/// Most users that files may belong to.
const MAX_OWNERS: usize = 16;
/// The largest file without `max_bytes`: 100 MiB.
pub const DEFAULT_MAX_BYTES: u64 = 100 * 1024 * 1024;

/// What a host allows. Nothing is allowed that it does not list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRules {
    /// Folders whose files the server may read, with all folders in them.
    #[serde(default)]
    pub read: Vec<String>,
    /// Folders in which the server may write files, with all folders in them.
    #[serde(default)]
    pub write: Vec<String>,
    /// The largest file of both directions.
    #[serde(default)]
    pub max_bytes: Option<u64>,
    /// Permissions that a request can ask for at most.
    #[serde(default)]
    pub max_mode: Option<String>,
    /// Users that a request can give a file to.
    #[serde(default)]
    pub owners: BTreeSet<String>,
}

impl FileRules {
    /// # Errors
    /// A sentence that names the field.
    pub(super) fn check(&self) -> Result<(), String> {
        for (field, roots) in [("read", &self.read), ("write", &self.write)] {
            if roots.len() > MAX_ROOTS {
                return Err(format!("files.{field} must list at most {MAX_ROOTS} folders"));
            }
            if let Some(wrong) = roots.iter().find(|root| !is_file_path(root)) {
                return Err(format!(
                    "files.{field} has `{wrong}`; list full paths of folders, without `..` and without `/` at the end"
                ));
            }
        }
        if self.max_bytes.is_some_and(|bytes| bytes == 0 || bytes > MAX_FILE_BYTES) {
            return Err(format!("files.max_bytes must be between 1 and {MAX_FILE_BYTES}"));
        }
        if self.max_mode.as_deref().is_some_and(|mode| mode_bits(mode).is_none()) {
            return Err("files.max_mode must be three octal digits such as 0755".into());
        }
        if self.owners.len() > MAX_OWNERS || !self.owners.iter().all(|name| is_user_name(name)) {
            return Err(format!("files.owners must hold at most {MAX_OWNERS} names of users"));
        }
        Ok(())
    }

    /// The folders of an operation.
    pub fn roots(&self, operation: FileOperation) -> &[String] {
        match operation {
            FileOperation::Push => &self.write,
            FileOperation::Pull => &self.read,
        }
    }

    /// The listed folder that a path is in, and the rest of the path; the innermost, if several are.
    pub fn root_of<'a>(
        &'a self,
        operation: FileOperation,
        path: &'a str,
    ) -> Option<(&'a str, &'a str)> {
        let below = |root: &'a String| {
            let rest = path.strip_prefix(root.as_str())?.strip_prefix('/')?;
            Some((root.as_str(), rest))
        };
        let found = self.roots(operation).iter().filter_map(below);
        found.max_by_key(|(root, _)| root.len())
    }

    pub fn max_bytes(&self) -> u64 {
        self.max_bytes.unwrap_or(DEFAULT_MAX_BYTES)
    }

    /// The permissions that a request can ask for at most.
    pub fn max_mode(&self) -> u32 {
        self.max_mode.as_deref().and_then(mode_bits).unwrap_or(DEFAULT_MODE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn rules(fields: Value) -> Result<FileRules, String> {
        let text = json!({ "files": fields }).to_string();
        Policy::parse(&text).map(|policy| policy.files.expect("given"))
    }

    #[test]
    fn a_host_allows_no_file_that_it_does_not_list() {
        assert_eq!(Policy::parse("{}").expect("valid").files, None);
        let rules = rules(json!({"read": ["/var/log"], "write": ["/srv", "/srv/www"]}));
        let rules = rules.expect("valid");
        let of = |operation, path| rules.root_of(operation, path);
        assert_eq!(of(FileOperation::Push, "/srv/a/b"), Some(("/srv", "a/b")));
        assert_eq!(of(FileOperation::Push, "/srv/www/b"), Some(("/srv/www", "b")));
        assert_eq!(of(FileOperation::Pull, "/var/log/a"), Some(("/var/log", "a")));
        for path in ["/srv", "/srvx/a", "/var/log/a", "/etc/passwd", "srv/a"] {
            assert_eq!(of(FileOperation::Push, path), None, "{path}");
        }
        assert_eq!(of(FileOperation::Pull, "/srv/a"), None);
        assert_eq!((rules.max_bytes(), rules.max_mode()), (DEFAULT_MAX_BYTES, 0o644));
    }

    #[test]
    fn rules_that_are_wrong_make_the_whole_policy_invalid() {
        for wrong in [
            json!({"read": ["/"]}),
            json!({"write": ["srv"]}),
            json!({"write": ["/srv/"]}),
            json!({"write": ["/srv/../etc"]}),
            json!({"write": vec!["/a"; 17]}),
            json!({"max_bytes": 0}),
            json!({"max_bytes": MAX_FILE_BYTES + 1}),
            json!({"max_mode": "4755"}),
            json!({"owners": ["a b"]}),
            json!({"delete": ["/srv"]}),
            json!(["/srv"]),
        ] {
            rules(wrong.clone()).expect_err(&wrong.to_string());
        }
    }

    proptest! {
        #[test]
        fn a_path_below_a_folder_is_the_folder_and_the_rest(
            roots in proptest::collection::vec("(/[ab]{1,2}){1,3}", 1..4),
            path in "(/[ab]{1,2}){1,4}",
        ) {
            let rules = FileRules { write: roots, ..FileRules::default() };
            if let Some((root, rest)) = rules.root_of(FileOperation::Push, &path) {
                prop_assert_eq!(format!("{root}/{rest}"), path.clone());
                prop_assert!(rules.write.iter().any(|known| known == root));
            }
        }
    }
}
