//! The first thing that a supervisor does, before it even reads its command line: it takes the lock
//! of its installation, and counts how often the host begins while a version is on trial.
//!
//! Whatever ends a supervisor after that (an option or a variable that it reads otherwise than the
//! one before, a crash) is counted by the next start. So this knows as little as it can: the
//! program folder.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::durable::FileError;
use super::lock::{Lock, LockError};
use super::trial::{Phase, Trial};
use super::versions::Versions;
use crate::fault::Cut;

/// Times that a host may begin anew while a version is on trial.
pub const MAX_BOOTS: u32 = 3;

/// What a start has done before anything else.
#[derive(Debug, Default)]
pub struct Guard {
    pub(super) lock: Option<Lock>,
    /// `None` if this start is not one that counts, or is to be counted later.
    pub(super) counted: Option<Result<(), FileError>>,
}

impl Guard {
    /// `arguments` without the program's own name; `folder` is what `MUSTER_DIR` says. Comes back
    /// with the supervisor to become instead, if the one that runs has failed too often.
    pub fn begin(
        mut arguments: impl Iterator<Item = OsString>,
        folder: Option<OsString>,
    ) -> (Self, Option<PathBuf>) {
        if arguments.next().is_none_or(|action| action != "run") {
            return (Self::default(), None);
        }
        let folder = named_folder(arguments).or(folder).filter(|folder| !folder.is_empty());
        let Some(program) = folder.map(PathBuf::from) else { return (Self::default(), None) };
        // A second supervisor counts nothing: it is not what runs on trial.
        let Ok(lock) = Lock::take(&program) else { return (Self::default(), None) };
        let mut guard = Self { lock: Some(lock), counted: None };
        let other = guard.count(&program);
        (guard, other)
    }

    fn count(&mut self, program: &Path) -> Option<PathBuf> {
        let versions = Versions::new(program);
        let own = versions.own()?;
        let mut trial = Trial::read(program).ok().flatten().filter(Trial::is_undecided)?;
        let current = versions.current()?;
        if own == trial.to && current == trial.from {
            // It was handed over to by the one that is current, which has counted.
            return None;
        }
        trial.boots += 1;
        self.counted = Some(trial.write(program));
        Cut::BootCounted.here();
        // Usually the one that is current has worked, and gives up the trial by itself.
        if own != trial.to || trial.boots <= MAX_BOOTS {
            return None;
        }
        versions.point_to(&trial.from).ok()?;
        Some(versions.binary(&trial.from, muster_protocol::release::Program::Supervisor))
    }

    /// The lock, which is taken now if it was not to be had, or not to be looked for, before.
    pub(super) fn lock(&mut self, program: &Path) -> Result<Lock, LockError> {
        self.lock.take().map_or_else(|| Lock::take(program), Ok)
    }
}

/// What `--dir` says, as the command line will read it.
fn named_folder(arguments: impl Iterator<Item = OsString>) -> Option<OsString> {
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

impl Trial {
    /// True if the host has begun too often while it is tried.
    pub fn has_begun_too_often(&self) -> bool {
        self.phase == Phase::Trying && self.boots >= MAX_BOOTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_found_as_the_command_line_reads_it() {
        let named = |words: &[&str]| {
            named_folder(words.iter().map(OsString::from))
                .map(|folder| folder.into_string().unwrap())
        };
        assert_eq!(named(&["--park", "--dir", "/a b"]), Some("/a b".into()));
        assert_eq!(named(&["--dir=/a", "--dir=/b"]), Some("/a".into()));
        assert_eq!(named(&["--", "--dir", "/a"]), None);
        assert_eq!(named(&["--dir"]), None);
        assert_eq!(named(&["--director=/a"]), None);
    }
}
