//! The folder that a release is downloaded to, and the room that it takes.

use std::fs;
use std::path::PathBuf;

use muster_protocol::release::{VerifiedRelease, Version};

use super::durable::{self, FileError};
use super::package::program_path;
use super::{NotTaken, Updates};

/// Bytes that stay free on the disk with the programs, as jobs need them elsewhere.
const SPARE_BYTES: u64 = 64 * MIB;
const MIB: u64 = 1024 * 1024;
const PREFIX: &str = ".release-";

impl Updates {
    /// Where a release is downloaded to. What an earlier download left there is gone on with.
    ///
    /// # Errors
    /// [`FileError`]
    pub fn open_staging(&self, version: &Version) -> Result<PathBuf, FileError> {
        self.remove_staging(Some(version));
        let folder = self.staging(version);
        durable::make_private_folder(&folder)?;
        Ok(folder)
    }

    /// True if an earlier download of this version has left something to go on with.
    pub fn has_staging(&self, version: &Version) -> bool {
        self.staging(version).exists()
    }

    /// Whether the programs of a release fit beside what is there.
    ///
    /// # Errors
    /// [`NotTaken::NoRoom`]
    pub fn check_room(&self, verified: &VerifiedRelease) -> Result<(), NotTaken> {
        // A disk that does not tell is found out about by writing.
        let Ok(free) = crate::platform::free_bytes(&self.program) else { return Ok(()) };
        let staging = self.staging(&verified.manifest.version);
        let missing = verified.files.iter().map(|file| {
            let has = fs::metadata(program_path(&staging, file.name)).map_or(0, |file| file.len());
            file.bytes.saturating_sub(has)
        });
        let needed = missing.fold(SPARE_BYTES, u64::saturating_add);
        match needed <= free {
            true => Ok(()),
            false => {
                let (needed_mib, free_mib) = (needed.div_ceil(MIB), free / MIB);
                Err(NotTaken::NoRoom { needed_mib, free_mib })
            }
        }
    }

    /// Drops every download: nobody goes on with it.
    pub fn drop_staging(&self) {
        self.remove_staging(None);
    }

    pub(super) fn staging(&self, version: &Version) -> PathBuf {
        self.program.join(name(version))
    }

    fn remove_staging(&self, except: Option<&Version>) {
        let kept = except.map(name);
        let Ok(entries) = fs::read_dir(&self.program) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let is_staging = name.to_str().is_some_and(|name| name.starts_with(PREFIX));
            if is_staging && name.to_str() != kept.as_deref() {
                let path = entry.path();
                let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
            }
        }
    }
}

fn name(version: &Version) -> String {
    format!("{PREFIX}{version}")
}
