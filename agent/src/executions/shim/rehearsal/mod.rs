//! A rehearsal: a run with dummy secrets, during which the shim notices where they come out.
//!
//! It looks at the arguments of the processes of the run again and again, so it may miss a process that lives
//! only for a moment. After the run it reads the files that were left behind, within bounds.

mod detector;
mod files;

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use muster_protocol::library::{LeakPlace, Rehearsal};
use muster_protocol::parameter::secret_parameters::SecretParameters;
use uuid::Uuid;

pub use self::detector::OutputWatch;
use self::detector::SecretDetectors;
use self::files::{FileSearch, FoundFile};
use super::mask::TooManySecrets;
use crate::platform::{self, Account};

/// Time between two looks at the processes.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(10);
/// Most bytes of the arguments of one process.
const MAX_ARGUMENT_BYTES: u64 = 256 * 1024;
/// Most processes between one of the run and the shim.
const MAX_ANCESTORS: usize = 64;
/// Folders that all users of a host share for temporary files.
const SHARED_FOLDERS: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];

/// Why a rehearsal can't start.
#[derive(Debug, thiserror::Error)]
pub enum RehearsalError {
    #[error("the folders of the rehearsal can't be made: {0}")]
    Folders(#[from] io::Error),
    #[error(transparent)]
    Secrets(#[from] TooManySecrets),
}

/// Watches one run.
pub struct RehearsalWatch {
    /// Its working folder and its folder for temporary files, which no other run uses.
    folder: PathBuf,
    /// The state of the agent, which has the values of each execution.
    state: PathBuf,
    user: Option<u32>,
    started_at: SystemTime,
    sampled: RefCell<Sampled>,
}

struct Sampled {
    detectors: SecretDetectors,
    next_at: Instant,
    report: Rehearsal,
}

impl RehearsalWatch {
    /// Prepares the folders of a run.
    ///
    /// # Errors
    /// [`RehearsalError`]
    pub fn start(
        (command_id, state): (Uuid, &Path),
        secrets: &SecretParameters,
        account: Option<&Account>,
    ) -> Result<Self, RehearsalError> {
        let detectors = SecretDetectors::of(secrets)?;
        let folder = std::env::temp_dir().join(format!("muster-rehearsal-{command_id}"));
        // A shim that was killed before it started the script may have left it.
        let _ = fs::remove_dir_all(&folder);
        let private = |path: &Path| DirBuilder::new().mode(0o700).create(path);
        private(&folder)?;
        // Files get their times from a coarser clock than the system's: one that is written at once after the
        // start would look older than it.
        let started_at = fs::metadata(&folder)?.modified()?;
        private(&folder.join("work"))?;
        private(&folder.join("tmp"))?;
        if let Some(account) = account {
            // From the inside, so that the user can't put anything in the way before.
            for path in [folder.join("work"), folder.join("tmp"), folder.clone()] {
                account.own(&File::open(&path)?)?;
            }
        }
        let report = Rehearsal::empty();
        let sampled = RefCell::new(Sampled { detectors, next_at: Instant::now(), report });
        let user = account.map(Account::user_id);
        let state = state.canonicalize()?;
        Ok(Self { folder, state, user, started_at, sampled })
    }

    /// Where the script starts.
    pub fn working_folder(&self) -> PathBuf {
        self.folder.join("work")
    }

    /// What the script gets beside its parameters.
    pub fn variable(&self) -> (OsString, OsString) {
        ("TMPDIR".into(), self.folder.join("tmp").into())
    }

    /// The time until the next look at the processes.
    pub fn next_sample(&self) -> Duration {
        self.sampled.borrow().next_at.saturating_duration_since(Instant::now())
    }

    /// Looks at the arguments of the processes of this run, if it is time.
    pub fn sample(&self) {
        let mut sampled = self.sampled.borrow_mut();
        if sampled.next_at > Instant::now() {
            return;
        }
        let own = std::process::id();
        let all = platform::all_processes();
        let parents: HashMap<u32, u32> = all.iter().map(|it| (it.pid, it.parent)).collect();
        for pid in parents.keys().filter(|pid| descends_from(**pid, own, &parents)) {
            let Some(arguments) = arguments_of(*pid) else { continue };
            let Sampled { detectors, report, .. } = &mut *sampled;
            for name in detectors.found_in(&arguments) {
                report.add(&name, LeakPlace::Arguments, Some(name_of(&arguments)));
            }
        }
        sampled.next_at = Instant::now() + SAMPLE_INTERVAL;
    }

    /// Reads the files that were left behind, removes the folders, and returns everything that was found.
    pub fn finish(self, of_output: Option<Rehearsal>) -> Rehearsal {
        let Sampled { mut detectors, report, .. } = self.sampled.into_inner();
        let mut whole = of_output.unwrap_or_else(Rehearsal::empty);
        whole.is_complete &= report.is_complete;
        for leak in report.leaks {
            whole.add(&leak.parameter, leak.place, leak.detail);
        }
        let mut search = FileSearch::new(self.user, self.started_at);
        let mut look = |found: FoundFile, shown: String| {
            for name in detectors.found_in_file(found.file) {
                whole.add(&name, LeakPlace::File, Some(shown.clone()));
            }
        };
        for (name, label) in [("work", "working folder"), ("tmp", "TMPDIR")] {
            let folder = self.folder.join(name);
            search.each(&folder, &mut |found| {
                let path = found.path.strip_prefix(&folder).unwrap_or(&found.path);
                let shown = format!("{} ({label})", path.display());
                look(found, shown);
            });
        }
        for shared in SHARED_FOLDERS.map(Path::new) {
            search.each_new(shared, &[&self.folder, &self.state], &mut |found| {
                let shown = found.path.display().to_string();
                look(found, shown);
            });
        }
        whole.is_complete &= search.is_complete();
        let _ = fs::remove_dir_all(&self.folder);
        whole
    }
}

fn descends_from(pid: u32, ancestor: u32, parents: &HashMap<u32, u32>) -> bool {
    let mut pid = pid;
    // A process that ends meanwhile may leave a circle.
    for _ in 0..MAX_ANCESTORS {
        match parents.get(&pid) {
            Some(parent) if *parent == ancestor => return true,
            Some(parent) => pid = *parent,
            None => return false,
        }
    }
    false
}

fn arguments_of(pid: u32) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(format!("/proc/{pid}/cmdline")).ok()?;
    file.take(MAX_ARGUMENT_BYTES).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The program, without its folder.
fn name_of(arguments: &[u8]) -> String {
    let program = arguments.split(|byte| *byte == 0).next().unwrap_or_default();
    let name = program.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_written_right_after_the_start_is_found() {
        let state = tempfile::tempdir().expect("a folder");
        let mut secrets = SecretParameters::default();
        secrets.insert("A".into(), "dummy-0123456789".into());
        // Once may go well by chance: the clock of files advances every few milliseconds.
        for _ in 0..10 {
            let id = Uuid::now_v7();
            let watch = RehearsalWatch::start((id, state.path()), &secrets, None).expect("folders");
            let left = PathBuf::from(format!("/tmp/muster-test-{id}"));
            fs::write(&left, "dummy-0123456789").expect("written");
            let report = watch.finish(None);
            fs::remove_file(&left).expect("it is there");
            let left = left.display().to_string();
            let mut places = report.leaks.into_iter().filter_map(|leak| leak.detail);
            assert!(places.any(|place| place == left), "{left} was not found");
        }
    }
}
