//! Every selection of packages compiles its dependencies with the same features, so that none is
//! compiled twice.

use std::collections::BTreeSet;
use std::process::Command;

use crate::sources::root;

/// The dependencies of a selection, each with its version and features, as its tests need them.
fn dependencies(selection: &[&str]) -> BTreeSet<String> {
    let tree = ["tree", "--frozen", "--edges", "normal,build,dev", "--prefix", "none"];
    let output = Command::new(env!("CARGO"))
        .args(tree)
        .args(["--format", "{p} [{f}]"])
        .args(selection)
        .current_dir(root())
        .output()
        .expect("run cargo tree");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo tree {selection:?} failed: {errors}");
    let lines = String::from_utf8(output.stdout).expect("text");
    // A dependency that was printed before ends with a mark.
    let lines = lines.lines().map(|line| line.trim_end_matches(" (*)"));
    lines.filter(|line| !line.contains('/')).map(str::to_owned).collect()
}

#[test]
fn every_selection_of_packages_shares_compiled_dependencies() {
    let all = dependencies(&["--workspace"]);
    assert!(all.len() > 400, "only {} dependencies were found", all.len());
    let mut packages = crate::sources::CRATES.to_vec();
    packages.push("conventions");
    for package in packages {
        let package = format!("muster-{package}");
        let selected = dependencies(&["--package", &package]);
        let others: Vec<_> = selected.difference(&all).collect();
        assert!(
            others.is_empty(),
            "the tests of {package} compile these again, with other features: {others:#?}\n\
             run `cargo install cargo-hakari --locked && cargo hakari generate`"
        );
    }
}
