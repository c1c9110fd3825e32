//! Programs stay on disk while a job uses them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command};

use crate::installation::{GOOD, Installation, WISHES};

/// A job that runs from a version, as a shim does.
struct Job(Child);

impl Job {
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

impl Drop for Job {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_version_that_a_job_runs_from_stays_also_where_a_link_leads_to_the_folder() {
    let mut installation = Installation::new(WISHES, GOOD);
    let job = Job::from(&installation, "0.0.9");
    fs::create_dir_all(installation.path("versions/0.0.8/bin")).unwrap();
    let link = installation.path("link");
    symlink(installation.path(""), &link).unwrap();
    installation.harness.set("MUSTER_DIR", link.to_str().unwrap());
    let mut running = installation.start();
    running.runs("0.1.0");
    running.runs("0.2.0");
    installation.ends("installed", "", "0.2.0");
    // Versions are removed after the note of the trial; the supervisor is through with it here.
    running.stop();
    assert!(job.program().exists(), "{:?} is gone", job.program());
    assert!(!installation.path("versions/0.0.8").exists());
}

#[test]
fn a_version_of_the_same_name_is_put_aside_while_a_job_runs_from_it() {
    let mut installation = Installation::new(WISHES, GOOD);
    let job = Job::from(&installation, "0.2.0");
    // Of a start that was cut off.
    fs::create_dir_all(installation.path("versions/.old-0.2.0/bin")).unwrap();
    let mut running = installation.start();
    running.runs("0.1.0");
    running.runs("0.2.0");
    installation.ends("installed", "", "0.2.0");
    running.stop();
    assert!(job.program().exists(), "{:?} is gone", job.program());
}
