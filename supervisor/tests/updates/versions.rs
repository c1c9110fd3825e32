//! Programs stay on disk while an execution uses them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command};

use crate::installation::{GOOD, Installation, REQUESTS_UPDATE};

/// An execution that runs a version's program, like a shim does.
struct Execution(Child);

impl Execution {
    fn from(installation: &Installation, version: &str) -> Self {
        let bin = installation.path("versions").join(version).join("bin");
        fs::create_dir_all(&bin).unwrap();
        let program = bin.join("muster-agent");
        fs::copy("/bin/sleep", &program).unwrap();
        Self(Command::new(program).arg("600").spawn().unwrap())
    }

    fn program(&self) -> PathBuf {
        fs::read_link(format!("/proc/{}/exe", self.0.id())).unwrap()
    }
}

impl Drop for Execution {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn version_in_use_by_an_execution_is_kept_even_if_the_folder_is_a_link() {
    let mut installation = Installation::new(REQUESTS_UPDATE, GOOD);
    let execution = Execution::from(&installation, "0.0.9");
    fs::create_dir_all(installation.path("versions/0.0.8/bin")).unwrap();
    let link = installation.path("link");
    symlink(installation.path(""), &link).unwrap();
    installation.harness.set("MUSTER_DIR", link.to_str().unwrap());
    let mut running = installation.start();
    running.runs("0.1.0");
    running.runs("0.2.0");
    installation.expect_result("installed", "", "0.2.0");
    // Unused versions are removed after the saved trial, and before the supervisor stops.
    running.stop();
    assert!(execution.program().exists(), "{:?} is gone", execution.program());
    assert!(!installation.path("versions/0.0.8").exists());
}

#[test]
fn same_version_is_moved_aside_while_an_execution_runs_from_it() {
    let mut installation = Installation::new(REQUESTS_UPDATE, GOOD);
    let execution = Execution::from(&installation, "0.2.0");
    // Left by an interrupted start.
    fs::create_dir_all(installation.path("versions/.old-0.2.0/bin")).unwrap();
    let mut running = installation.start();
    running.runs("0.1.0");
    running.runs("0.2.0");
    installation.expect_result("installed", "", "0.2.0");
    running.stop();
    assert!(execution.program().exists(), "{:?} is gone", execution.program());
}
