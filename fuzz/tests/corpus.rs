//! Checks the stored corpus on every run, without a fuzzer.

use std::fs;
use std::path::{Path, PathBuf};

use muster_fuzz::TARGETS;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let name = |entry: fs::DirEntry| entry.file_name().into_string().expect("a plain name");
    let mut names: Vec<_> = entries.map(|entry| name(entry.expect("listed"))).collect();
    names.sort();
    names
}

#[test]
fn every_stored_input_satisfies_its_target() {
    for target in TARGETS {
        let folder = corpus().join(target.name);
        let inputs = names(&folder);
        assert!(!inputs.is_empty(), "`{}` has no corpus", target.name);
        for input in inputs {
            let bytes = fs::read(folder.join(&input)).expect("read");
            let checked = std::panic::catch_unwind(|| (target.check)(&bytes));
            assert!(checked.is_ok(), "{}/{input}", target.name);
        }
    }
}

#[test]
fn every_stored_input_belongs_to_a_target() {
    let mut targets: Vec<_> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    targets.sort();
    assert_eq!(names(&corpus()), targets);
}
