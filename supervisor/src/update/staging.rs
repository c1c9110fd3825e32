//! The folder that a release is downloaded to, and the disk space that it needs.

use std::fs;
use std::path::PathBuf;

use muster_protocol::release::{VerifiedRelease, Version};

use super::durable_file::{self, FileError};
use super::error::UpdateError;
use super::manager::UpdateManager;
use super::package::program_path;

/// Bytes that must stay free on the disk with the programs, for executions that use the same disk.
const SPARE_BYTES: u64 = 64 * MIB;
const MIB: u64 = 1024 * 1024;
const PREFIX: &str = ".release-";

impl UpdateManager {
    /// Creates the folder that a release is downloaded to, and removes other downloads. An
    /// interrupted download of the same version resumes.
    ///
    /// # Errors
    /// [`FileError`]
    pub fn open_staging(&self, version: &Version) -> Result<PathBuf, FileError> {
        self.remove_staging(Some(version));
        let folder = self.staging(version);
        durable_file::make_private_folder(&folder)?;
        Ok(folder)
    }

    /// True if an earlier download of this version can be resumed.
    pub fn has_staging(&self, version: &Version) -> bool {
        self.staging(version).exists()
    }

    /// Checks that the programs of a release fit on the disk.
    ///
    /// # Errors
    /// [`UpdateError::NoSpace`]
    pub fn check_free_space(&self, verified: &VerifiedRelease) -> Result<(), UpdateError> {
        // If free space is unknown, writing will show it.
        let Ok(free) = crate::platform::free_bytes(&self.program) else { return Ok(()) };
        let staging = self.staging(&verified.descriptor.version);
        let missing = verified.files.iter().map(|file| {
            let has = fs::metadata(program_path(&staging, file.name)).map_or(0, |file| file.len());
            file.bytes.saturating_sub(has)
        });
        let needed = missing.fold(SPARE_BYTES, u64::saturating_add);
        match needed <= free {
            true => Ok(()),
            false => {
                let (needed_mib, free_mib) = (needed.div_ceil(MIB), free / MIB);
                Err(UpdateError::NoSpace { needed_mib, free_mib })
            }
        }
    }

    /// Removes every download.
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
