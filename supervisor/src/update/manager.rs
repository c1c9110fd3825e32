//! The installed versions of agent and supervisor, and the update requests for them.
//!

use std::path::{Path, PathBuf};

use muster_protocol::release::{
    Program, UPDATE_REQUEST_FILE, UPDATE_RESULT_FILE, UpdateOutcome, UpdateRequest, UpdateResult,
    VerifiedRelease, Version,
};

use super::boot_counter::BootCounter;
use super::durable_file::{self, FileError};
use super::error::UpdateError;
use super::lock::{InstallationLock, LockError};
use super::package;
use super::verify::{self, TrustPolicy};
use super::versions::Versions;
use crate::fault_injection::CrashPoint;

/// Manages the installed programs of one host.
#[derive(Debug)]
pub struct UpdateManager {
    /// The program folder, which contains `versions/`. Only its owner can write there.
    pub(super) program: PathBuf,
    /// The agent's state directory, which contains its update request.
    pub(super) state_dir: PathBuf,
    pub(super) versions: Versions,
    pub(super) boot_counter: BootCounter,
    /// Held for the lifetime of the manager; other supervisors must wait.
    _lock: InstallationLock,
}

/// How a downloaded release was installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Installed {
    /// It is the current version, whose programs are intact again.
    Repaired,
    /// It is installed beside the current version.
    Placed,
}

impl UpdateManager {
    /// Opens the installation in `program`; `None` if there is none that can be updated.
    ///
    /// # Errors
    /// [`LockError`] if another supervisor manages it.
    pub fn open(
        program: &Path,
        state_dir: &Path,
        mut boot_counter: BootCounter,
    ) -> Result<Option<Self>, LockError> {
        let versions = Versions::new(program);
        if versions.current().is_none() {
            return Ok(None);
        }
        let lock = boot_counter.lock(program)?;
        let (program, state_dir) = (program.to_owned(), state_dir.to_owned());
        Ok(Some(Self { program, state_dir, versions, boot_counter, _lock: lock }))
    }

    /// The current version, which is started next.
    pub fn current(&self) -> Option<Version> {
        self.versions.current()
    }

    /// The agent's update request, if it has no result yet.
    pub fn open_request(&self) -> Option<UpdateRequest> {
        let request: UpdateRequest = durable_file::read(&self.state_dir.join(UPDATE_REQUEST_FILE))?;
        let result: Option<UpdateResult> =
            durable_file::read(&self.state_dir.join(UPDATE_RESULT_FILE));
        result.is_none_or(|result| !result.is_of(&request)).then_some(request)
    }

    /// Verifies the documents of a download, before any program is downloaded. Remembers the floor
    /// of a release that the pinned key has signed, whether or not it is installed later.
    ///
    /// # Errors
    /// [`UpdateError`]
    pub fn verify_documents(
        &self,
        request: &UpdateRequest,
    ) -> Result<VerifiedRelease, UpdateError> {
        let folder = self.staging(&request.version);
        let pinned = TrustPolicy::of(&self.program)?;
        let mut trust = pinned.clone();
        if self.current().as_ref() == Some(&request.version) {
            // The running version may be repaired, even if a newer release was rolled back.
            trust.pins.floor = None;
        }
        let verified = verify::verify_documents(&folder, &request.version, &trust)?;
        if pinned.pins.fingerprint.is_some() {
            pinned.pins.raise_floor(&self.program, &verified.descriptor.floor)?;
        }
        Ok(verified)
    }

    /// True if this release is installed, bit for bit.
    pub fn is_installed(&self, verified: &VerifiedRelease) -> bool {
        self.current().as_ref() == Some(&verified.descriptor.version) && self.versions.has(verified)
    }

    /// Verifies the whole download and installs it beside the current version, or over the current
    /// version if it is the same.
    ///
    /// # Errors
    /// [`UpdateError`]; nothing was changed.
    pub fn install(&self, request: &UpdateRequest) -> Result<Installed, UpdateError> {
        let folder = self.staging(&request.version);
        let verified = self.verify_documents(request)?;
        package::check_programs(&folder, &verified)?;
        CrashPoint::Verified.trigger();
        if self.current().as_ref() == Some(&request.version) {
            self.versions.repair(&folder, &verified)?;
            return Ok(Installed::Repaired);
        }
        self.versions.place(&folder, &verified)?;
        Ok(Installed::Placed)
    }

    /// The path of a version's program.
    pub fn binary(&self, version: &Version, program: Program) -> PathBuf {
        self.versions.binary(version, program)
    }

    /// The error that a failed download reported, if any.
    pub fn read_download_error<T: serde::de::DeserializeOwned>(&self, staging: &Path) -> Option<T> {
        durable_file::read(&staging.join("fetch_error.json"))
    }

    /// The result of a request that led to no trial.
    pub fn result(
        &self,
        request: &UpdateRequest,
        outcome: UpdateOutcome,
        code: Option<&str>,
        message: String,
    ) -> UpdateResult {
        let from = self.current().map(|version| version.to_string()).unwrap_or_default();
        UpdateResult {
            command_id: request.command_id,
            outcome,
            from_version: from,
            to_version: request.version.to_string(),
            code: code.map(str::to_owned),
            message,
        }
    }

    /// Removes the agent's status file, so that a session in it belongs to an agent that starts
    /// later. After a power cut the file may name a process id that is in use again.
    ///
    /// # Errors
    /// [`FileError`]; the status must not be trusted then.
    pub fn discard_agent_status(&self) -> Result<(), FileError> {
        let path = self.status();
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(FileError::of("remove", &path)(error))
            }
            // If a power cut restores it, the next start removes it again.
            _ => Ok(()),
        }
    }

    /// True once the agent of this version that runs as process `pid` has a session.
    pub fn is_registered(&self, pid: u32, version: &Version) -> bool {
        #[derive(serde::Deserialize)]
        struct Status {
            pid: u32,
            version: String,
            connected_since: Option<serde::de::IgnoredAny>,
        }
        let status: Option<Status> = durable_file::read(&self.status());
        status.is_some_and(|status| {
            let is_its = status.pid == pid && status.version == version.to_string();
            is_its && status.connected_since.is_some()
        })
    }

    fn status(&self) -> PathBuf {
        self.state_dir.join("status.json")
    }

    /// Writes the result of a request for the agent.
    ///
    /// # Errors
    /// [`FileError`]; the caller must retry.
    pub fn write_result(&self, result: &UpdateResult) -> Result<(), FileError> {
        durable_file::write(&self.state_dir.join(UPDATE_RESULT_FILE), result)
    }
}
