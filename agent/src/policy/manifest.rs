//! The host's manifest, read again when its file has changed.

use std::fs;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::PathBuf;

use muster_protocol::frame::AgentFrame;
use muster_protocol::limits::MAX_SCRIPT_MANIFEST_BYTES;
use muster_protocol::manifest::Manifest;

use crate::policy::file_fingerprint::FileFingerprint;
use crate::policy::guard;
use crate::storage::layout::StateDir;
use crate::storage::{self, StorageError};

const EXAMPLE_MANIFEST: &str = include_str!("../../assets/script_manifest.json");
const EXAMPLE_SCRIPT: &str = include_str!("../../assets/hello.sh");

/// The manifest in force and the state of its file.
#[derive(Debug)]
pub struct ManifestFile {
    path: PathBuf,
    seen: Option<FileFingerprint>,
    good: Manifest,
    refusal: Option<String>,
}

impl ManifestFile {
    /// Reads the manifest; a host that never had one gets an example with one harmless script.
    ///
    /// # Errors
    /// [`StorageError`] if the example can't be written. An invalid manifest is not an error: it is
    /// rejected with its reason, and no script may be run.
    pub fn open(state: &StateDir) -> Result<Self, StorageError> {
        let path = state.manifest();
        let seen_marker = state.manifest_seen();
        if !path.exists() && !seen_marker.exists() {
            write_example(state)?;
        }
        if path.exists() && !seen_marker.exists() {
            storage::replace_synced(&seen_marker, b"")?;
        }
        let mut file = Self { path, seen: None, good: Manifest::default(), refusal: None };
        file.reload();
        Ok(file)
    }

    /// The manifest in force.
    pub fn current(&self) -> &Manifest {
        &self.good
    }

    /// Why the newest file is not in force, if it is rejected.
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// The frame that reports the manifest and the policy to the server.
    pub fn frame(&self, policy: Option<String>, forbidden_commands: Vec<String>) -> AgentFrame {
        let (manifest, error) = (self.good.clone(), self.refusal.clone());
        AgentFrame::Manifest { manifest, error, policy, forbidden_commands }
    }

    /// Reads the file again if it has changed. True if the server must be notified.
    pub fn reload(&mut self) -> bool {
        let fingerprint = FileFingerprint::of(&self.path);
        // A rejected file is read again: the permissions of its folder may have been corrected.
        if fingerprint.is_some() && fingerprint == self.seen && self.refusal.is_none() {
            return false;
        }
        let before = (self.good.clone(), self.refusal.clone());
        self.seen = fingerprint;
        match self.read() {
            Ok(manifest) => {
                self.good = manifest;
                self.refusal = None;
            }
            Err(reason) => {
                if fingerprint.is_none() && !self.path.exists() {
                    // The owner who deletes the list takes back what it permitted.
                    self.good = Manifest::default();
                }
                self.refusal = Some(reason);
            }
        }
        let is_new = before != (self.good.clone(), self.refusal.clone());
        match &self.refusal {
            Some(reason) if is_new => {
                let scripts = self.good.scripts.len();
                tracing::warn!(%reason, scripts, "the manifest was rejected; these scripts stay in force");
            }
            None if is_new => tracing::info!(scripts = self.good.scripts.len(), "manifest read"),
            _ => {}
        }
        is_new
    }

    fn read(&self) -> Result<Manifest, String> {
        let name = "script_manifest.json";
        let text =
            guard::read_text(&self.path, MAX_SCRIPT_MANIFEST_BYTES as u64).map_err(|error| {
                if error.is_missing() {
                    return format!("{name} was deleted, so no script is permitted");
                }
                error.to_string()
            })?;
        Manifest::parse(&text).map_err(|error| format!("{name}: {error}"))
    }
}

fn write_example(state: &StateDir) -> Result<(), StorageError> {
    let script = state.scripts().join("hello.sh");
    if !script.exists() {
        let write = || {
            use std::io::Write as _;
            let mut options = fs::OpenOptions::new();
            options.write(true).create_new(true).mode(0o755);
            let mut file = options.open(&script)?;
            // Independent of the umask: the user that runs the script has to read it.
            file.set_permissions(fs::Permissions::from_mode(0o755))?;
            file.write_all(EXAMPLE_SCRIPT.as_bytes())
        };
        write().map_err(StorageError::io("create", &script))?;
    }
    storage::replace_synced(&state.manifest(), EXAMPLE_MANIFEST.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_manifest_is_reported_and_the_last_valid_one_stays_in_force() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let state = StateDir::create(folder.path()).expect("state directory");
        let mut file = ManifestFile::open(&state).expect("example");
        assert!(file.current().script("hello").is_some());
        assert!(!file.reload(), "nothing has changed");

        fs::write(state.manifest(), "{\n  \"scripts\": 7\n}").expect("written");
        assert!(file.reload());
        assert!(file.current().script("hello").is_some());
        let AgentFrame::Manifest { error: Some(reason), .. } = file.frame(None, Vec::new()) else {
            panic!("the refusal is reported");
        };
        assert!(reason.contains("line 2"), "{reason}");

        fs::write(state.manifest(), r#"{"scripts":[]}"#).expect("written");
        assert!(file.reload());
        assert!(file.current().scripts.is_empty());
        assert!(matches!(file.frame(None, Vec::new()), AgentFrame::Manifest { error: None, .. }));
    }

    #[test]
    fn a_deleted_manifest_permits_nothing_also_after_a_restart() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let state = StateDir::create(folder.path()).expect("state directory");
        let mut file = ManifestFile::open(&state).expect("example");
        fs::remove_file(state.manifest()).expect("removed");
        assert!(file.reload());
        assert!(file.current().scripts.is_empty());
        let file = ManifestFile::open(&state).expect("no example");
        assert!(file.current().scripts.is_empty());
        assert!(file.refusal().is_some_and(|reason| reason.contains("was deleted")));
    }
}
