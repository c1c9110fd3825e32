//! The directory of one test. No process may be running in it when its last user is dropped.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::processes::process_tree::{FoundProcess, processes_of};
use crate::wait::eventually_blocking;

/// How long processes may take to end after their parents.
const PATIENCE: Duration = Duration::from_secs(5);

/// A temporary folder, shared by everything a test starts.
#[derive(Debug, Clone)]
pub struct TestDir(Arc<Folder>);

#[derive(Debug)]
struct Folder(TempDir);

impl TestDir {
    /// A new, empty directory with a name that no other process mentions.
    pub fn new() -> Self {
        // Other users may traverse it: PostgreSQL runs as its own user.
        let folder = tempfile::Builder::new()
            .prefix("muster-test-")
            .permissions(Permissions::from_mode(0o711))
            .tempdir();
        Self(Arc::new(Folder(folder.expect("make a temporary folder"))))
    }

    /// The path.
    pub fn path(&self) -> &Path {
        self.0.0.path()
    }

    /// A folder in it, created if it is missing.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(&path).expect("make a folder");
        path
    }

    /// Running processes that belong to a folder of this directory and have `word` in their command
    /// line.
    pub fn processes(&self, folder: &Path, word: &str) -> Vec<FoundProcess> {
        let mut found = processes_of(folder);
        found.retain(|process| process.command_line.contains(word));
        found
    }
}

impl Default for TestDir {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let path = self.0.path();
        let gone = eventually_blocking(PATIENCE, || processes_of(path).is_empty().then_some(()));
        if gone.is_some() {
            return;
        }
        let left = processes_of(path);
        for process in &left {
            // It may end by itself in between.
            let _ = kill(Pid::from_raw(process.id), Signal::SIGKILL);
        }
        assert!(std::thread::panicking(), "left running: {left:#?}");
    }
}
