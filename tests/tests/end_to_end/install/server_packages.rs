//! The `.deb` and `.rpm` packages of server and command line, on a throw-away host.

use muster_tests::{TestDir, binary, repository, run_tool};

/// The programs that the packages contain.
const PROGRAMS: [&str; 4] = ["muster-server", "muster", "muster-agent", "muster-supervisor"];

#[test]
fn packages_install_upgrade_refuse_older_versions_and_remove_what_they_installed() {
    let test_dir = TestDir::new();
    let programs = PROGRAMS.map(binary);
    let folder = programs[0].parent().expect("a folder").to_str().expect("plain names");
    let script = repository().join("scripts/check-packages.sh");
    let temporary = test_dir.path().to_str().expect("plain names");
    let printed = run_tool(
        "bash".as_ref(),
        &[script.to_str().expect("plain names"), folder],
        &[("TMPDIR", temporary)],
        test_dir.path(),
    );
    for kind in ["deb", "rpm"] {
        assert!(printed.contains(&format!("{kind}: all expectations met")), "{printed}");
    }
}
