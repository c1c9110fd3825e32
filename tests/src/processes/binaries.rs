//! The programs under test: beside the test's own executable, in cargo's folder.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::freshness::changed_source;
use super::test_run::TestRun;

/// The command that builds every program of the workspace.
const BUILD: &str = "cargo build --workspace --bins";

/// The path of a program of the workspace.
///
/// # Panics
/// If it was not built, or a source was changed since: `cargo test` alone builds no programs of
/// other crates.
pub fn binary(name: &str) -> PathBuf {
    static CURRENT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let program = existing(folder().join(name), &format!("run `{BUILD}` before the tests"));
    let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
    if !current.contains(&program) {
        let changed = changed_source(&program, TestRun::current().started_at());
        if let Some(source) = changed {
            panic!("{name} is older than {}: run `{BUILD}`", source.display());
        }
        current.insert(program.clone());
    }
    program
}

/// The path of a file of the previous build, which hosts may still have.
///
/// # Panics
/// If it has not been built.
pub fn previous(name: &str) -> PathBuf {
    existing(target().join("previous/bin").join(name), "run scripts/build-previous.sh")
}

/// Cargo's folder for everything that is built.
pub fn target() -> PathBuf {
    folder().parent().unwrap_or(Path::new("/")).to_owned()
}

/// Cargo's folder for this profile.
fn folder() -> PathBuf {
    let test = std::env::current_exe().expect("a process knows its executable");
    // target/<profile>/deps/<test> → target/<profile>/<program>. A program is in that folder
    // itself.
    let folder = test.parent().expect("an executable is in a folder");
    let folder = if folder.ends_with("deps") { folder.parent().expect("cargo's") } else { folder };
    folder.to_owned()
}

fn existing(path: PathBuf, remedy: &str) -> PathBuf {
    assert!(path.is_file(), "{} is missing: {remedy}, or `make test`", path.display());
    path
}
