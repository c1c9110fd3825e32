//! The oldest version of each script of the library that this host still runs: a file with a line for
//! each, `NAME VERSION`.
//!
//! Only statements of publishers that the host trusts raise it, so a server can neither fill the file
//! nor make the host forget. It is kept apart from the ledger, which a server can make the host set aside.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::PathBuf;

use muster_protocol::manifest::is_script_name;

use crate::storage::layout::StateDir;
use crate::storage::{self, StorageError};

/// The minimum versions.
#[derive(Debug)]
pub struct MinimumVersions {
    path: PathBuf,
    versions: BTreeMap<String, u32>,
}

impl MinimumVersions {
    /// Reads the file.
    ///
    /// # Errors
    /// [`StorageError`] if the file can't be read: an agent that started without it would run old
    /// versions.
    pub fn open(state: &StateDir) -> Result<Self, StorageError> {
        let path = state.minimum_versions();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(StorageError::io("read", &path)(error)),
        };
        Ok(Self { path, versions: text.lines().filter_map(read_line).collect() })
    }

    /// The oldest version of a script that may run; 0 without one.
    pub fn of(&self, name: &str) -> u32 {
        self.versions.get(name).copied().unwrap_or(0)
    }

    /// Records a minimum durably, before the version that brought it starts. A lower one changes nothing.
    ///
    /// # Errors
    /// [`StorageError`]; the command must not start then.
    pub fn raise(&mut self, name: &str, version: u32) -> Result<(), StorageError> {
        if version <= self.of(name) {
            return Ok(());
        }
        let mut versions = self.versions.clone();
        versions.insert(name.to_owned(), version);
        let text = versions.iter().fold(String::new(), |mut text, (name, version)| {
            // Writing to a string can't fail.
            let _ = writeln!(text, "{name} {version}");
            text
        });
        storage::replace_synced(&self.path, text.as_bytes())?;
        self.versions = versions;
        Ok(())
    }
}

fn read_line(line: &str) -> Option<(String, u32)> {
    let (name, version) = line.split_once(' ')?;
    Some((name.to_owned(), version.parse().ok()?)).filter(|_| is_script_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minimum_is_remembered_by_the_next_process_and_never_becomes_lower() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let state = StateDir::create(folder.path()).expect("state directory");
        let mut minimums = MinimumVersions::open(&state).expect("empty");
        assert_eq!(minimums.of("a"), 0);
        minimums.raise("a", 3).expect("written");
        minimums.raise("b", 1).expect("written");
        minimums.raise("a", 2).expect("unchanged");
        let minimums = MinimumVersions::open(&state).expect("read");
        assert_eq!((minimums.of("a"), minimums.of("b"), minimums.of("c")), (3, 1, 0));
    }
}
