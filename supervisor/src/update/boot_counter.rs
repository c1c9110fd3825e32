//! The first thing that a supervisor does, even before it reads its command line: it locks its
//! installation and counts the host's starts during a trial.
//!
//! If the supervisor ends after that (a crash, or an option or variable that this version reads
//! differently), the next start is counted. This module therefore depends on as little as possible:
//! the program folder.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::durable_file::FileError;
use super::lock::{InstallationLock, LockError};
use super::trial_record::{MAX_BOOTS, TrialRecord};
use super::versions::Versions;
use crate::fault_injection::CrashPoint;

/// The lock and the count that a start has made.
#[derive(Debug, Default)]
pub struct BootCounter {
    pub(super) lock: Option<InstallationLock>,
    /// `None` if this start does not count, or is counted later.
    pub(super) counted: Option<Result<(), FileError>>,
}

impl BootCounter {
    /// `arguments` are without the program's own name; `folder` is the value of `MUSTER_DIR`. Also
    /// returns the supervisor to `exec` instead, if this one failed to start too often.
    pub fn start(
        mut arguments: impl Iterator<Item = OsString>,
        folder: Option<OsString>,
    ) -> (Self, Option<PathBuf>) {
        if arguments.next().is_none_or(|action| action != "run") {
            return (Self::default(), None);
        }
        let folder = dir_argument(arguments).or(folder).filter(|folder| !folder.is_empty());
        let Some(program) = folder.map(PathBuf::from) else { return (Self::default(), None) };
        // A second supervisor does not count: it is not the one on trial.
        let Ok(lock) = InstallationLock::acquire(&program) else { return (Self::default(), None) };
        let mut boot_counter = Self { lock: Some(lock), counted: None };
        let other = boot_counter.count(&program);
        (boot_counter, other)
    }

    fn count(&mut self, program: &Path) -> Option<PathBuf> {
        let versions = Versions::new(program);
        let own = versions.own()?;
        let mut trial =
            TrialRecord::read(program).ok().flatten().filter(TrialRecord::is_undecided)?;
        let current = versions.current()?;
        if own == trial.to && current == trial.from {
            // The current supervisor handed over and has counted this start.
            return None;
        }
        trial.boots += 1;
        self.counted = Some(trial.write(program));
        CrashPoint::BootCounted.trigger();
        // Usually the current supervisor works and ends the trial itself.
        if own != trial.to || trial.boots <= MAX_BOOTS {
            return None;
        }
        versions.point_to(&trial.from).ok()?;
        Some(versions.binary(&trial.from, muster_protocol::release::Program::Supervisor))
    }

    /// Returns the lock, acquired now unless it was acquired at the start.
    pub(super) fn lock(&mut self, program: &Path) -> Result<InstallationLock, LockError> {
        self.lock.take().map_or_else(|| InstallationLock::acquire(program), Ok)
    }
}

/// The value of `--dir`, as the command line will read it.
fn dir_argument(arguments: impl Iterator<Item = OsString>) -> Option<OsString> {
    let mut arguments = arguments.take_while(|argument| argument != "--");
    while let Some(argument) = arguments.next() {
        if argument == "--dir" {
            return arguments.next();
        }
        if let Some(folder) = argument.to_str().and_then(|text| text.strip_prefix("--dir=")) {
            return Some(folder.into());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dir_option_is_read_like_the_command_line_reads_it() {
        let named = |words: &[&str]| {
            dir_argument(words.iter().map(OsString::from))
                .map(|folder| folder.into_string().unwrap())
        };
        assert_eq!(named(&["--park", "--dir", "/a b"]), Some("/a b".into()));
        assert_eq!(named(&["--dir=/a", "--dir=/b"]), Some("/a".into()));
        assert_eq!(named(&["--", "--dir", "/a"]), None);
        assert_eq!(named(&["--dir"]), None);
        assert_eq!(named(&["--director=/a"]), None);
    }
}
