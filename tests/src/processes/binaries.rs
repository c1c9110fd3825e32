//! Where the programs under test are: beside the test's own executable, in cargo's folder.

use std::path::{Path, PathBuf};

/// The path of one of the workspace's programs.
///
/// # Panics
/// If it has not been built: `cargo test` alone does not build programs of other crates.
pub fn binary(name: &str) -> PathBuf {
    existing(folder().join(name), "run `cargo build --workspace --bins` before the tests")
}

/// The path of a file of the older build that hosts may still have.
///
/// # Panics
/// If it has not been built.
pub fn previous(name: &str) -> PathBuf {
    let folder = folder();
    let target = folder.parent().unwrap_or(Path::new("/"));
    existing(target.join("previous/bin").join(name), "run scripts/build-previous.sh")
}

/// Cargo's, of this profile.
fn folder() -> PathBuf {
    let test = std::env::current_exe().expect("a process knows its executable");
    // target/<profile>/deps/<test> → target/<profile>/<program>; a program is there itself.
    let folder = test.parent().expect("it lies in a folder");
    let folder = if folder.ends_with("deps") { folder.parent().expect("cargo's") } else { folder };
    folder.to_owned()
}

fn existing(path: PathBuf, remedy: &str) -> PathBuf {
    assert!(path.is_file(), "{} is missing: {remedy}, or `make test`", path.display());
    path
}
