//! Runs programs with another time than the rest of the host, with the package `faketime`.

use std::path::PathBuf;

/// Variables that shift a program's wall clock by this much, such as `-7h`, and nothing else.
///
/// # Panics
/// If faketime is not installed: a missing program fails the tests.
pub fn fake_time(offset: &str) -> [(&'static str, String); 3] {
    let library = library().to_string_lossy().into_owned();
    [
        ("LD_PRELOAD", library),
        ("FAKETIME", offset.to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ]
}

fn library() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").expect("read /usr/lib").filter_map(Result::ok);
    folders
        .map(|folder| folder.path().join("faketime/libfaketime.so.1"))
        .find(|file| file.is_file())
        .expect("libfaketime is missing: install the package faketime")
}
