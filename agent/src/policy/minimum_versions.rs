//! The oldest version of each script of the library, and the lowest rank of each package, that this host
//! still runs: files with a line for each, `NAME NUMBER`.
//!
//! Only statements of publishers that the host trusts raise it, so a server can neither fill the file
//! nor make the host forget. It is kept apart from the ledger, which a server can make the host set aside.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use muster_protocol::manifest::is_script_name;

use crate::storage::layout::StateDir;
use crate::storage::{self, StorageError};

/// What a statement of a publisher makes the oldest that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Minimum {
    /// The number of a version.
    Script { name: String, version: u32 },
    /// The rank that a publisher gave a version.
    Package { name: String, rank: u64 },
}

/// The minimum versions. Clones share them.
#[derive(Debug, Clone)]
pub struct MinimumVersions(Arc<Mutex<Files>>);

#[derive(Debug)]
struct Files {
    scripts: MinimumFile,
    packages: MinimumFile,
}

#[derive(Debug)]
struct MinimumFile {
    path: PathBuf,
    numbers: BTreeMap<String, u64>,
}

impl MinimumVersions {
    /// Reads the files.
    ///
    /// # Errors
    /// [`StorageError`] if a file can't be read: an agent that started without it would run old
    /// versions.
    pub fn open(state: &StateDir) -> Result<Self, StorageError> {
        let scripts = MinimumFile::open(state.minimum_versions())?;
        let packages = MinimumFile::open(state.minimum_packages())?;
        Ok(Self(Arc::new(Mutex::new(Files { scripts, packages }))))
    }

    /// The oldest version of a script that may run; 0 without one.
    pub fn of(&self, name: &str) -> u32 {
        u32::try_from(self.files().scripts.of(name)).unwrap_or(u32::MAX)
    }

    /// The lowest rank of a package that may run; 0 without one.
    pub fn of_package(&self, name: &str) -> u64 {
        self.files().packages.of(name)
    }

    /// Records a minimum durably, before the version that brought it starts. A lower one changes nothing.
    ///
    /// # Errors
    /// [`StorageError`]; the command must not start then.
    pub fn raise(&self, minimum: &Minimum) -> Result<(), StorageError> {
        match minimum {
            Minimum::Script { name, version } => {
                self.files().scripts.raise(name, u64::from(*version))
            }
            Minimum::Package { name, rank } => self.files().packages.raise(name, *rank),
        }
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        // A change is complete or did not happen, so the files are valid after a panic, too.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MinimumFile {
    fn open(path: PathBuf) -> Result<Self, StorageError> {
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(StorageError::io("read", &path)(error)),
        };
        Ok(Self { path, numbers: text.lines().filter_map(read_line).collect() })
    }

    fn of(&self, name: &str) -> u64 {
        self.numbers.get(name).copied().unwrap_or(0)
    }

    fn raise(&mut self, name: &str, number: u64) -> Result<(), StorageError> {
        if number <= self.of(name) {
            return Ok(());
        }
        let mut numbers = self.numbers.clone();
        numbers.insert(name.to_owned(), number);
        let text = numbers.iter().fold(String::new(), |mut text, (name, number)| {
            // Writing to a string can't fail.
            let _ = writeln!(text, "{name} {number}");
            text
        });
        storage::replace_synced(&self.path, text.as_bytes())?;
        self.numbers = numbers;
        Ok(())
    }
}

fn read_line(line: &str) -> Option<(String, u64)> {
    let (name, number) = line.split_once(' ')?;
    Some((name.to_owned(), number.parse().ok()?)).filter(|_| is_script_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minimum_is_remembered_by_the_next_process_and_never_becomes_lower() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let state = StateDir::create(folder.path()).expect("state directory");
        let script = |name: &str, version| Minimum::Script { name: name.into(), version };
        let minimums = MinimumVersions::open(&state).expect("empty");
        assert_eq!(minimums.of("a"), 0);
        minimums.raise(&script("a", 3)).expect("written");
        minimums.clone().raise(&script("b", 1)).expect("written");
        minimums.raise(&script("a", 2)).expect("unchanged");
        // A package of the same name has its own.
        let rank = 1_767_225_600_000;
        minimums.raise(&Minimum::Package { name: "a".into(), rank }).expect("written");
        minimums.raise(&Minimum::Package { name: "a".into(), rank: 7 }).expect("unchanged");
        let minimums = MinimumVersions::open(&state).expect("read");
        assert_eq!((minimums.of("a"), minimums.of("b"), minimums.of("c")), (3, 1, 0));
        assert_eq!((minimums.of_package("a"), minimums.of_package("b")), (rank, 0));
    }
}
