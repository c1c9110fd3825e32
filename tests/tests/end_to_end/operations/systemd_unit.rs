//! The server's unit for systemd: valid, and strict.

use std::path::Path;
use std::process::Command;

use muster_tests::TestDir;

/// The highest accepted exposure of the service, of 100. systemd calls up to 20 fine.
const EXPOSURE: &str = "--threshold=15";

fn analyze(args: &[&str], unit: &Path) {
    let output = Command::new("systemd-analyze").args(args).arg(unit).output();
    let output = output.expect("start systemd-analyze");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn server_unit_is_valid_and_restrictive() {
    let test_dir = TestDir::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/muster-server.service");
    let text = std::fs::read_to_string(source).expect("read the unit");
    let unit = test_dir.path().join("muster-server.service");
    // The program that it starts is not installed here.
    std::fs::write(&unit, text.replace("/usr/bin/muster-server", "/bin/true")).expect("write");
    analyze(&["verify"], &unit);
    analyze(&["security", "--offline=true", "--no-pager", EXPOSURE], &unit);
}
