//! Where the programs under test are: beside the test's own executable, in cargo's folder.

use std::path::PathBuf;

/// The path of one of the workspace's programs.
///
/// # Panics
/// If it has not been built: `cargo test` alone does not build programs of other crates.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a process knows its executable");
    // target/<profile>/deps/<test> → target/<profile>/<program>; a program is there itself.
    let folder = test.parent().expect("it lies in a folder");
    let folder = if folder.ends_with("deps") { folder.parent().expect("cargo's") } else { folder };
    let path = folder.join(name);
    assert!(
        path.is_file(),
        "{} is missing: run `cargo build --workspace --bins` before the tests, or `make test`",
        path.display()
    );
    path
}
