//! The `.deb` and `.rpm` packages of server and command line, on throw-away hosts.

use muster_tests::{TestDir, binary, repository, run_tool};

/// The programs that the packages contain.
const PROGRAMS: [&str; 4] = ["muster-server", "muster", "muster-agent", "muster-supervisor"];

/// Builds the packages from the programs under test and uses them as administrators do.
fn check_packages(kind: &str) {
    let test_dir = TestDir::new();
    let programs = PROGRAMS.map(binary);
    let folder = programs[0].parent().expect("a folder").to_str().expect("plain names");
    let script = repository().join("scripts/check-packages.sh");
    let script = script.to_str().expect("plain names");
    let temporary = test_dir.path().to_str().expect("plain names");
    let environment = [("TMPDIR", temporary)];
    let printed = run_tool("bash".as_ref(), &[script, folder, kind], &environment, test_dir.path());
    assert!(printed.contains(&format!("{kind}: all expectations met")), "{printed}");
}

#[test]
fn debian_packages_keep_data_at_upgrades_refuse_older_versions_and_are_purged() {
    check_packages("deb");
}

#[test]
fn rpm_packages_keep_data_at_upgrades_refuse_older_versions_and_are_removed() {
    check_packages("rpm");
}
