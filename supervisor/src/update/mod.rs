//! Another version of agent and supervisor: taken, tried, kept or given back.
//!
//! Knows files; starts no process, which is for `supervise`. Every step leaves a folder from which
//! a host starts: what is new lies beside what works, and one rename makes it current.

mod durable;
mod examination;
mod package;
mod trial;
mod verdict;
mod versions;

use std::fs;
use std::path::{Path, PathBuf};

use muster_protocol::release::{
    Program, UpdateOutcome, UpdateVerdict, UpdateWish, VERDICT_FILE, Version, WISH_FILE,
};

pub use self::durable::FileError;
pub use self::examination::{Examined, Trust, examine};
pub use self::package::PackageError;
pub use self::trial::{Phase, Trial};
pub use self::verdict::NotTaken;
use self::versions::Versions;

/// What is pinned: the fingerprint of the key that signs releases.
const KEY_FILE: &str = "release_key";
/// The highest floor of the releases that have run here.
const FLOOR_FILE: &str = "release_floor";

/// The programs of one host, and what is wished of them.
#[derive(Debug)]
pub struct Updates {
    /// Where `versions/` lies; only its owner writes there.
    program: PathBuf,
    /// Where the agent leaves its wish.
    state_dir: PathBuf,
    versions: Versions,
}

/// What became of a downloaded release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It is what is installed, bit for bit.
    Unchanged,
    /// It was of the version that is current: its programs are whole again.
    Repaired,
    /// It lies beside the current one.
    Placed,
}

impl Updates {
    /// The installation in `program`; `None` if none is there that can be updated.
    pub fn of(program: &Path, state_dir: &Path) -> Option<Self> {
        let versions = Versions::new(program);
        versions.current()?;
        Some(Self { program: program.to_owned(), state_dir: state_dir.to_owned(), versions })
    }

    /// The version that is started next.
    pub fn current(&self) -> Option<Version> {
        self.versions.current()
    }

    /// What the agent wishes and has no answer to yet.
    pub fn wish(&self) -> Option<UpdateWish> {
        let wish: UpdateWish = durable::read(&self.state_dir.join(WISH_FILE))?;
        let verdict: Option<UpdateVerdict> = durable::read(&self.state_dir.join(VERDICT_FILE));
        verdict.is_none_or(|verdict| !verdict.is_of(&wish)).then_some(wish)
    }

    /// Where a release is downloaded to. What an earlier download left there is gone on with.
    ///
    /// # Errors
    /// [`FileError`]
    pub fn staging(&self, version: &Version) -> Result<PathBuf, FileError> {
        self.remove_staging(Some(version));
        let folder = self.program.join(staging_name(version));
        durable::make_private_folder(&folder)?;
        Ok(folder)
    }

    /// Judges what was downloaded, and puts it beside the current version if it may be tried.
    ///
    /// # Errors
    /// [`NotTaken`]; nothing has changed then.
    pub fn take(&self, wish: &UpdateWish) -> Result<Taken, NotTaken> {
        let folder = self.program.join(staging_name(&wish.version));
        let trust = Trust::of(&self.program);
        let taken = examination::judge(&folder, &wish.version, &trust).and_then(|verified| {
            Ok(match self.current().as_ref() == Some(&wish.version) {
                true if self.versions.has(&verified) => Taken::Unchanged,
                true => {
                    self.versions.repair(&folder, &verified)?;
                    Taken::Repaired
                }
                false => {
                    self.versions.place(&folder, &verified)?;
                    Taken::Placed
                }
            })
        });
        // Refused once is refused again, and what was placed is placed.
        self.remove_staging(None);
        taken
    }

    /// Where a program of a version lies.
    pub fn binary(&self, version: &Version, program: Program) -> PathBuf {
        self.versions.binary(version, program)
    }

    /// The version on trial, also across restarts of the host; `None` for a note that does not fit
    /// what is current.
    pub fn trial(&self) -> Option<Trial> {
        let trial = Trial::read(&self.program)?;
        let expected = match trial.phase {
            Phase::Trying => &trial.to,
            Phase::Returned => &trial.from,
        };
        if self.current().as_ref() == Some(expected) {
            return Some(trial);
        }
        None
    }

    /// Drops the note of a trial that is none.
    ///
    /// # Errors
    /// [`FileError`]
    pub fn forget_trial(&self) -> Result<(), FileError> {
        match Trial::is_noted(&self.program) {
            true => Trial::remove(&self.program),
            false => Ok(()),
        }
    }

    /// What a download that failed has left behind, if it fits.
    pub fn told_by_download<T: serde::de::DeserializeOwned>(&self, staging: &Path) -> Option<T> {
        durable::read(&staging.join("fetch_error.json"))
    }

    /// Makes the placed version current, on trial.
    ///
    /// # Errors
    /// [`FileError`]; the version before it is then still current.
    pub fn begin_trial(&self, wish: &UpdateWish) -> Result<Trial, FileError> {
        let from = self.current().ok_or_else(|| self.versions.no_current())?;
        let trial = Trial {
            command_id: wish.command_id,
            from,
            to: wish.version.clone(),
            phase: Phase::Trying,
            boots: 0,
            code: None,
            message: None,
        };
        trial.write(&self.program)?;
        self.versions.point_to(&wish.version)?;
        Ok(trial)
    }

    /// Notes that a supervisor begins while a version is on trial.
    ///
    /// # Errors
    /// [`FileError`]
    pub fn count_boot(&self, trial: &mut Trial) -> Result<(), FileError> {
        trial.boots += 1;
        trial.write(&self.program)
    }

    /// Makes the version before the trial current again; the trial goes on to tell whether that
    /// one can register.
    ///
    /// # Errors
    /// [`FileError`]; a next start finds the trial where it was.
    pub fn go_back(&self, trial: &mut Trial, code: &str, message: &str) -> Result<(), FileError> {
        trial.phase = Phase::Returned;
        trial.boots = 0;
        trial.code = Some(code.to_owned());
        trial.message = Some(message.to_owned());
        // In this order a cut leaves the version that works; the trial's note no longer fits and is
        // dropped, and the wish is answered as interrupted.
        self.versions.point_to(&trial.from)?;
        trial.write(&self.program)
    }

    /// The trial is over: tells the agent, and forgets it.
    ///
    /// # Errors
    /// [`FileError`]; it is then found again at the next start.
    pub fn conclude(&self, trial: &Trial, outcome: UpdateOutcome) -> Result<(), FileError> {
        if outcome == UpdateOutcome::Installed {
            self.remember(&trial.to)?;
        }
        self.write_verdict(&trial.verdict(outcome))?;
        Trial::remove(&self.program)?;
        self.versions.prune(&[&trial.from, &trial.to]);
        Ok(())
    }

    /// Answers a wish that led to no trial.
    ///
    /// # Errors
    /// [`FileError`]
    pub fn answer(
        &self,
        wish: &UpdateWish,
        outcome: UpdateOutcome,
        code: Option<&str>,
        message: String,
    ) -> Result<(), FileError> {
        let from = self.current().map(|version| version.to_string()).unwrap_or_default();
        self.write_verdict(&UpdateVerdict {
            command_id: wish.command_id,
            outcome,
            from_version: from,
            to_version: wish.version.to_string(),
            code: code.map(str::to_owned),
            message,
        })
    }

    /// True once the agent that runs as process `pid` has a session.
    pub fn is_registered(&self, pid: u32) -> bool {
        #[derive(serde::Deserialize)]
        struct Status {
            pid: u32,
            connected_since: Option<serde::de::IgnoredAny>,
        }
        let status: Option<Status> = durable::read(&self.state_dir.join("status.json"));
        status.is_some_and(|status| status.pid == pid && status.connected_since.is_some())
    }

    fn write_verdict(&self, verdict: &UpdateVerdict) -> Result<(), FileError> {
        durable::write(&self.state_dir.join(VERDICT_FILE), verdict)
    }

    /// Pins the key and raises the floor by what the version that is kept says.
    fn remember(&self, version: &Version) -> Result<(), FileError> {
        let Some(package) = self.versions.package(version) else { return Ok(()) };
        let Ok((manifest, key)) = package.identity() else { return Ok(()) };
        durable::write_line(&self.program.join(KEY_FILE), &key.fingerprint())?;
        let path = self.program.join(FLOOR_FILE);
        let known = durable::read_line(&path).and_then(|line| line.parse::<Version>().ok());
        if known.is_none_or(|known| known < manifest.floor) {
            durable::write_line(&path, &manifest.floor.to_string())?;
        }
        Ok(())
    }

    /// Downloads of other versions are of no more use.
    fn remove_staging(&self, except: Option<&Version>) {
        let kept = except.map(staging_name);
        let Ok(entries) = fs::read_dir(&self.program) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let is_staging = name.to_str().is_some_and(|name| name.starts_with(STAGING));
            if is_staging && name.to_str() != kept.as_deref() {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

const STAGING: &str = ".release-";

fn staging_name(version: &Version) -> String {
    format!("{STAGING}{version}")
}
