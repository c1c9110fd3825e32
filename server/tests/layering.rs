//! Data goes one way: no room imports one above it, or a sibling of its floor.

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms from the ground up. A room may import rooms of lower floors only; `boot` sees all.
const FLOORS: [&[&str]; 5] = [
    &["domain", "fault", "metrics"],
    &["store", "hub", "adapters"],
    &["services"],
    &["http", "ws", "workers", "listener"],
    &["boot", "config", "lib", "main"],
];

/// Imports that cross the rule, each with its reason.
const EXCEPTIONS: [(&str, &str); 1] = [
    // Settings are read where they are put together.
    ("config", "services"),
];

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("read a folder") {
        let path = entry.expect("read a folder").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The rooms that a source names as `crate::room`.
fn named(source: &str) -> Vec<String> {
    let behind = source.split("crate::").skip(1);
    let room = |rest: &str| {
        rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().map(str::to_owned)
    };
    behind.filter_map(room).filter(|room| floor(room).is_some()).collect()
}

fn breaches(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    sources(folder, &mut files);
    assert!(files.len() > 50, "the sources moved: this test reads nothing");
    let mut found = Vec::new();
    for file in files {
        let inner = file.strip_prefix(folder).expect("inside");
        let first = inner.components().next().expect("a name").as_os_str().to_string_lossy();
        let room = first.trim_end_matches(".rs").to_owned();
        let mine =
            floor(&room).unwrap_or_else(|| panic!("`{room}` has no floor: add it to the house"));
        for other in named(&fs::read_to_string(&file).expect("read a source")) {
            let theirs = floor(&other).expect("filtered");
            let is_allowed = other == room
                || theirs < mine
                || EXCEPTIONS.contains(&(room.as_str(), other.as_str()))
                || mine == FLOORS.len() - 1;
            if !is_allowed {
                found.push(format!("{} imports {other}", inner.display()));
            }
        }
    }
    found
}

#[test]
fn no_room_imports_a_room_above_or_beside_it() {
    let found = breaches(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_breach_would_be_seen() {
    assert_eq!(named("use crate::store::Store;\ncrate::services::x()"), ["store", "services"]);
    assert!(floor("services") > floor("store"));
}

#[test]
fn the_protocol_knows_no_runtime_and_nobody_but_the_server_knows_the_server() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let manifest =
        |part: &str| fs::read_to_string(root.join(part).join("Cargo.toml")).expect("read");
    for part in ["protocol", "supervisor", "agent", "cli"] {
        assert!(!manifest(part).contains("muster-server"), "{part} depends on the server");
    }
    for runtime in ["tokio", "axum", "sea-orm", "reqwest"] {
        assert!(!manifest("protocol").contains(runtime), "protocol depends on {runtime}");
    }
}
