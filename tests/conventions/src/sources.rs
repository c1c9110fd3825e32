//! The files of the repository that the tests of conventions read.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders of the crates, which are also the names that documentation uses.
pub const CRATES: [&str; 8] =
    ["protocol", "server", "agent", "supervisor", "cli", "tests", "benches", "fuzz"];

/// One file.
pub struct SourceFile {
    /// The folder of its crate; empty for files outside of crates.
    pub folder: &'static str,
    /// Relative to the root of the repository, with `/`.
    pub path: String,
    pub text: String,
}

/// The root of the repository.
pub fn root() -> PathBuf {
    let place = Path::new(env!("CARGO_MANIFEST_DIR"));
    place.ancestors().nth(2).expect("the root").to_path_buf()
}

/// Reads a file of the repository.
pub fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("read {path}: {error}"))
}

/// The Rust files of these crates, sorted by path.
pub fn rust_files(folders: &[&'static str]) -> Vec<SourceFile> {
    let mut found = Vec::new();
    for folder in folders {
        collect(folder, &root().join(folder), "rs", &mut found);
    }
    assert!(found.len() > 20, "the sources moved: this test reads nothing");
    found
}

/// The README, the changelog and the documentation, sorted by path.
pub fn pages() -> Vec<SourceFile> {
    let mut found = Vec::new();
    collect("", &root().join("docs"), "md", &mut found);
    for name in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        found.push(SourceFile { folder: "", path: name.into(), text: read(name) });
    }
    assert!(found.len() > 15, "the documentation moved: this test reads nothing");
    found
}

fn collect(folder: &'static str, place: &Path, extension: &str, found: &mut Vec<SourceFile>) {
    let mut paths: Vec<_> = fs::read_dir(place)
        .unwrap_or_else(|error| panic!("read {}: {error}", place.display()))
        .map(|entry| entry.expect("read a folder").path())
        .collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() {
            // What cargo builds, not a module of that name.
            if name != "target" || !path.join("CACHEDIR.TAG").exists() {
                collect(folder, &path, extension, found);
            }
        } else if path.extension().is_some_and(|known| known == extension) {
            let text = fs::read_to_string(&path).expect("read a source");
            let path = path.strip_prefix(root()).expect("inside").to_string_lossy().into_owned();
            found.push(SourceFile { folder, path, text });
        }
    }
}
