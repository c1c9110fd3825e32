//! `versions/` in the program folder: one folder per version, and the link `current`.

use std::fs::{self, Permissions};
use std::io;
use std::path::{Path, PathBuf};

use muster_protocol::release::{Program, VerifiedRelease, Version};

use super::durable_file::{self, FileError};
use super::package::{self, Package, program_path};
use crate::fault_injection::CrashPoint;

/// The documents that are kept beside a version's programs.
const DOCUMENTS: [&str; 3] = ["release.json", "release.sig", "keys.json"];

/// Prefix of a folder that was moved aside for a new one.
const ASIDE: &str = ".old-";

/// The versions of one installation.
#[derive(Debug)]
pub(super) struct Versions(PathBuf);

impl Versions {
    pub fn new(program: &Path) -> Self {
        let folder = program.join("versions");
        // The system reports running programs by their real path, without links.
        Self(folder.canonicalize().unwrap_or(folder))
    }

    /// The version that the running program belongs to; `None` if it is not in this folder.
    pub fn own(&self) -> Option<Version> {
        let own = std::env::current_exe().ok()?;
        own.strip_prefix(&self.0).ok()?.components().next()?.as_os_str().to_str()?.parse().ok()
    }

    /// The version that `current` points to.
    pub fn current(&self) -> Option<Version> {
        fs::read_link(self.0.join("current")).ok()?.file_name()?.to_str()?.parse().ok()
    }

    pub fn no_current(&self) -> FileError {
        FileError::of("find", &self.0.join("current"))(io::ErrorKind::NotFound.into())
    }

    pub fn binary(&self, version: &Version, program: Program) -> PathBuf {
        program_path(&self.folder(version), program)
    }

    /// The documents of an installed version.
    pub fn package(&self, version: &Version) -> Option<Package> {
        Package::read(&self.folder(version)).ok()
    }

    /// True if this release is installed, bit for bit.
    pub fn has(&self, verified: &VerifiedRelease) -> bool {
        package::check_programs(&self.folder(&verified.descriptor.version), verified).is_ok()
    }

    /// Moves a verified download into `versions/`. Replaces a folder of the same version, which is
    /// not current.
    pub fn place(&self, staging: &Path, verified: &VerifiedRelease) -> Result<(), FileError> {
        prepare(staging, verified)?;
        let folder = self.folder(&verified.descriptor.version);
        let aside = self.unused_aside_path(&verified.descriptor.version);
        match fs::rename(&folder, &aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(FileError::of("replace", &folder)(error));
            }
            _ => {}
        }
        CrashPoint::MovedAside.trigger();
        fs::rename(staging, &folder).map_err(FileError::of("place", &folder))?;
        durable_file::sync_folder(&self.0)?;
        CrashPoint::Placed.trigger();
        remove_unused(&aside);
        Ok(())
    }

    /// A free path to move a version to, from which executions may still run.
    fn unused_aside_path(&self, version: &Version) -> PathBuf {
        let mut place = self.0.join(format!("{ASIDE}{version}"));
        for number in 1_u32.. {
            remove_unused(&place);
            if fs::symlink_metadata(&place).is_err() {
                break;
            }
            place = self.0.join(format!("{ASIDE}{version}~{number}"));
        }
        place
    }

    /// Replaces the programs of the current version one by one. Each is intact at any moment.
    pub fn repair(&self, staging: &Path, verified: &VerifiedRelease) -> Result<(), FileError> {
        prepare(staging, verified)?;
        let folder = self.folder(&verified.descriptor.version);
        for program in Program::ALL {
            let (new, old) = (program_path(staging, program), program_path(&folder, program));
            fs::rename(&new, &old).map_err(FileError::of("replace", &old))?;
            CrashPoint::HalfRepaired.trigger();
        }
        for name in DOCUMENTS {
            // The documents are not needed for running, and belong to the same release anyway.
            let _ = fs::rename(staging.join(name), folder.join(name));
        }
        durable_file::sync_folder(&folder.join("bin"))?;
        durable_file::sync_folder(&folder)?;
        CrashPoint::Repaired.trigger();
        Ok(())
    }

    /// Makes a version current. There is a current version at any moment.
    pub fn point_to(&self, version: &Version) -> Result<(), FileError> {
        let (link, current) = (self.0.join(".current"), self.0.join("current"));
        let _ = fs::remove_file(&link);
        symlink(version, &link).map_err(FileError::of("create", &link))?;
        fs::rename(&link, &current).map_err(FileError::of("replace", &current))?;
        durable_file::sync_folder(&self.0)
    }

    /// Removes versions that are neither kept nor in use by a process, and those that were moved
    /// aside.
    pub fn prune(&self, kept: &[&Version]) {
        let Ok(entries) = fs::read_dir(&self.0) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let is_kept = match name.parse::<Version>() {
                Ok(version) => {
                    kept.contains(&&version) || self.current().as_ref() == Some(&version)
                }
                Err(_) => !name.starts_with(ASIDE),
            };
            if !is_kept {
                remove_unused(&entry.path());
            }
        }
    }

    pub fn folder(&self, version: &Version) -> PathBuf {
        self.0.join(version.to_string())
    }
}

/// Removes a folder unless a process runs from it: a program stays on disk while an execution uses
/// it.
fn remove_unused(folder: &Path) {
    if crate::platform::is_folder_in_use(folder) == Some(false) {
        let _ = fs::remove_dir_all(folder);
    }
}

/// Prepares a download for the move: executable, readable like an installation, durable, and
/// without the download's own notes.
fn prepare(staging: &Path, verified: &VerifiedRelease) -> Result<(), FileError> {
    let bin = staging.join("bin");
    keep_only(staging, |path| {
        path == bin || DOCUMENTS.iter().any(|known| path == staging.join(known))
    })?;
    keep_only(&bin, |path| {
        verified.files.iter().any(|file| path == program_path(staging, file.name))
    })?;
    for file in &verified.files {
        let path = program_path(staging, file.name);
        set_mode(&path, 0o755)?;
        let synced = durable_file::open(&path).and_then(|file| file.sync_all());
        synced.map_err(FileError::of("sync", &path))?;
    }
    for name in DOCUMENTS {
        if let Ok(file) = durable_file::open(&staging.join(name)) {
            set_mode(&staging.join(name), 0o644)?;
            file.sync_all().map_err(FileError::of("sync", &staging.join(name)))?;
        }
    }
    set_mode(&bin, 0o755)?;
    set_mode(staging, 0o755)?;
    durable_file::sync_folder(&bin)?;
    durable_file::sync_folder(staging)
}

fn keep_only(folder: &Path, is_wanted: impl Fn(&Path) -> bool) -> Result<(), FileError> {
    for entry in fs::read_dir(folder).map_err(FileError::of("read", folder))? {
        let path = entry.map_err(FileError::of("read", folder))?.path();
        if !is_wanted(&path) {
            let removed = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
            removed.map_err(FileError::of("remove", &path))?;
        }
    }
    Ok(())
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) -> Result<(), FileError> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(FileError::of("open", path))
}

#[cfg(not(unix))]
fn set_mode(_path: &Path, _mode: u32) -> Result<(), FileError> {
    Ok(())
}

#[cfg(unix)]
fn symlink(version: &Version, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(version.to_string(), link)
}

#[cfg(not(unix))]
fn symlink(_version: &Version, _link: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
