//! Another version of agent and supervisor: taken, tried, kept or given back.
//!
//! Knows files; starts no process, which is for `supervise`. Every step leaves a folder from which
//! a host starts: what is new lies beside what works, and one rename makes it current.

mod durable;
mod examination;
mod guard;
pub mod image;
mod lock;
mod package;
mod pins;
mod staging;
mod trial;
mod trials;
mod verdict;
mod versions;

use std::path::{Path, PathBuf};

use muster_protocol::release::{
    Program, UPDATE_REQUEST_FILE, UPDATE_RESULT_FILE, UpdateOutcome, UpdateRequest, UpdateResult,
    VerifiedRelease, Version,
};

pub use self::durable::FileError;
pub use self::examination::{Examined, Trust, examine};
pub use self::guard::{Guard, MAX_BOOTS};
use self::lock::Lock;
pub use self::lock::LockError;
pub use self::package::PackageError;
pub use self::pins::{PinError, Pins};
pub use self::trial::{Phase, Trial};
pub use self::verdict::NotTaken;
use self::versions::Versions;
use crate::fault::Cut;

/// The programs of one host, and what is wished of them.
#[derive(Debug)]
pub struct Updates {
    /// Where `versions/` lies; only its owner writes there.
    program: PathBuf,
    /// Where the agent leaves its wish.
    state_dir: PathBuf,
    versions: Versions,
    guard: Guard,
    /// For life: who else would change versions has to wait.
    _lock: Lock,
}

/// What became of a downloaded release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It was of the version that is current: its programs are whole again.
    Repaired,
    /// It lies beside the current one.
    Placed,
}

impl Updates {
    /// The installation in `program`; `None` if none is there that can be updated.
    ///
    /// # Errors
    /// [`LockError`] if another supervisor looks after it.
    pub fn of(
        program: &Path,
        state_dir: &Path,
        mut guard: Guard,
    ) -> Result<Option<Self>, LockError> {
        let versions = Versions::new(program);
        if versions.current().is_none() {
            return Ok(None);
        }
        let lock = guard.lock(program)?;
        let (program, state_dir) = (program.to_owned(), state_dir.to_owned());
        Ok(Some(Self { program, state_dir, versions, guard, _lock: lock }))
    }

    /// The version that is started next.
    pub fn current(&self) -> Option<Version> {
        self.versions.current()
    }

    /// What the agent wishes and has no answer to yet.
    pub fn wish(&self) -> Option<UpdateRequest> {
        let wish: UpdateRequest = durable::read(&self.state_dir.join(UPDATE_REQUEST_FILE))?;
        let verdict: Option<UpdateResult> = durable::read(&self.state_dir.join(UPDATE_RESULT_FILE));
        verdict.is_none_or(|verdict| !verdict.is_of(&wish)).then_some(wish)
    }

    /// Judges the documents of a download, before any program is fetched on their word.
    ///
    /// # Errors
    /// [`NotTaken`]
    pub fn examine(&self, wish: &UpdateRequest) -> Result<VerifiedRelease, NotTaken> {
        let folder = self.staging(&wish.version);
        examination::judge_documents(&folder, &wish.version, &Trust::of(&self.program)?)
    }

    /// True if this release is what is installed, bit for bit.
    pub fn is_in_place(&self, verified: &VerifiedRelease) -> bool {
        self.current().as_ref() == Some(&verified.manifest.version) && self.versions.has(verified)
    }

    /// Judges what was downloaded as a whole, and puts it beside the current version if it may be
    /// tried.
    ///
    /// # Errors
    /// [`NotTaken`]; nothing has changed then.
    pub fn take(&self, wish: &UpdateRequest) -> Result<Taken, NotTaken> {
        let folder = self.staging(&wish.version);
        let verified = self.examine(wish)?;
        package::check_programs(&folder, &verified)?;
        Cut::Judged.here();
        if self.current().as_ref() == Some(&wish.version) {
            self.versions.repair(&folder, &verified)?;
            return Ok(Taken::Repaired);
        }
        self.versions.place(&folder, &verified)?;
        Ok(Taken::Placed)
    }

    /// Where a program of a version lies.
    pub fn binary(&self, version: &Version, program: Program) -> PathBuf {
        self.versions.binary(version, program)
    }

    /// What a download that failed has left behind, if it fits.
    pub fn told_by_download<T: serde::de::DeserializeOwned>(&self, staging: &Path) -> Option<T> {
        durable::read(&staging.join("fetch_error.json"))
    }

    /// The answer to a wish that led to no trial.
    pub fn answer(
        &self,
        wish: &UpdateRequest,
        outcome: UpdateOutcome,
        code: Option<&str>,
        message: String,
    ) -> UpdateResult {
        let from = self.current().map(|version| version.to_string()).unwrap_or_default();
        UpdateResult {
            command_id: wish.command_id,
            outcome,
            from_version: from,
            to_version: wish.version.to_string(),
            code: code.map(str::to_owned),
            message,
        }
    }

    /// Makes sure that whatever says that an agent has a session is of one that is yet to be
    /// started: what an agent before it left may name the same process, after a power cut.
    ///
    /// # Errors
    /// [`FileError`]; nothing that is said is to be believed then.
    pub fn forget_session(&self) -> Result<(), FileError> {
        let path = self.status();
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(FileError::of("remove", &path)(error))
            }
            // If a power cut brings it back, the next start removes it again.
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
        let status: Option<Status> = durable::read(&self.status());
        status.is_some_and(|status| {
            let is_its = status.pid == pid && status.version == version.to_string();
            is_its && status.connected_since.is_some()
        })
    }

    fn status(&self) -> PathBuf {
        self.state_dir.join("status.json")
    }

    /// Tells the agent what came of its wish.
    ///
    /// # Errors
    /// [`FileError`]; it is to be tried again then.
    pub fn write_verdict(&self, verdict: &UpdateResult) -> Result<(), FileError> {
        durable::write(&self.state_dir.join(UPDATE_RESULT_FILE), verdict)
    }
}
