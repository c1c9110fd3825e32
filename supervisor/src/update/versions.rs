//! `versions/` in the program folder: a folder for each version, and `current`, which is a link.

use std::fs::{self, Permissions};
use std::io;
use std::path::{Path, PathBuf};

use muster_protocol::release::{Program, VerifiedRelease, Version};

use super::durable::{self, FileError};
use super::package::{self, Package, program_path};
use crate::fault::Cut;

/// What is kept of a release beside its programs.
const DOCUMENTS: [&str; 3] = ["release.json", "release.sig", "keys.json"];

/// What begins the name of a version that another took the place of.
const ASIDE: &str = ".old-";

/// The versions of one installation.
#[derive(Debug)]
pub(super) struct Versions(PathBuf);

impl Versions {
    pub fn new(program: &Path) -> Self {
        let folder = program.join("versions");
        // The system names the programs that run by where they are, whatever links lead there.
        Self(folder.canonicalize().unwrap_or(folder))
    }

    /// The version that the program which asks is of; `None` if it is none of these.
    pub fn own(&self) -> Option<Version> {
        let own = std::env::current_exe().ok()?;
        own.strip_prefix(&self.0).ok()?.components().next()?.as_os_str().to_str()?.parse().ok()
    }

    /// The version that `current` means.
    pub fn current(&self) -> Option<Version> {
        fs::read_link(self.0.join("current")).ok()?.file_name()?.to_str()?.parse().ok()
    }

    pub fn no_current(&self) -> FileError {
        FileError::of("find", &self.0.join("current"))(io::ErrorKind::NotFound.into())
    }

    pub fn binary(&self, version: &Version, program: Program) -> PathBuf {
        program_path(&self.folder(version), program)
    }

    /// What an installed version came with.
    pub fn package(&self, version: &Version) -> Option<Package> {
        Package::read(&self.folder(version)).ok()
    }

    /// True if this release is installed, bit for bit.
    pub fn has(&self, verified: &VerifiedRelease) -> bool {
        package::check_programs(&self.folder(&verified.manifest.version), verified).is_ok()
    }

    /// Moves a verified download to its place among the versions. A version of that name that is
    /// not current is replaced.
    pub fn place(&self, staging: &Path, verified: &VerifiedRelease) -> Result<(), FileError> {
        prepare(staging, verified)?;
        let folder = self.folder(&verified.manifest.version);
        let aside = self.free_place(&verified.manifest.version);
        match fs::rename(&folder, &aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(FileError::of("replace", &folder)(error));
            }
            _ => {}
        }
        Cut::SetAside.here();
        fs::rename(staging, &folder).map_err(FileError::of("place", &folder))?;
        durable::sync_folder(&self.0)?;
        Cut::Placed.here();
        remove_unused(&aside);
        Ok(())
    }

    /// Where a version that jobs may run from is put aside.
    fn free_place(&self, version: &Version) -> PathBuf {
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

    /// Replaces the programs of the current version, one by one: at any moment each is whole.
    pub fn repair(&self, staging: &Path, verified: &VerifiedRelease) -> Result<(), FileError> {
        prepare(staging, verified)?;
        let folder = self.folder(&verified.manifest.version);
        for program in Program::ALL {
            let (new, old) = (program_path(staging, program), program_path(&folder, program));
            fs::rename(&new, &old).map_err(FileError::of("replace", &old))?;
            Cut::HalfRepaired.here();
        }
        for name in DOCUMENTS {
            // Optional for running; they are of the same release in any case.
            let _ = fs::rename(staging.join(name), folder.join(name));
        }
        durable::sync_folder(&folder.join("bin"))?;
        durable::sync_folder(&folder)?;
        Cut::Repaired.here();
        Ok(())
    }

    /// Makes a version current. There is a current one at any moment.
    pub fn point_to(&self, version: &Version) -> Result<(), FileError> {
        let (link, current) = (self.0.join(".current"), self.0.join("current"));
        let _ = fs::remove_file(&link);
        symlink(version, &link).map_err(FileError::of("make", &link))?;
        fs::rename(&link, &current).map_err(FileError::of("replace", &current))?;
        durable::sync_folder(&self.0)
    }

    /// Removes versions that are neither kept nor run by any process, and what was put aside.
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

/// A program stays on disk while a job uses it.
fn remove_unused(folder: &Path) {
    if crate::platform::runs_from(folder) == Some(false) {
        let _ = fs::remove_dir_all(folder);
    }
}

/// Makes a download ready to be moved: executable, readable as an installation is, durable, and
/// without what the download noted for itself.
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
        open_to_all(&path, 0o755)?;
        let synced = durable::open(&path).and_then(|file| file.sync_all());
        synced.map_err(FileError::of("sync", &path))?;
    }
    for name in DOCUMENTS {
        if let Ok(file) = durable::open(&staging.join(name)) {
            open_to_all(&staging.join(name), 0o644)?;
            file.sync_all().map_err(FileError::of("sync", &staging.join(name)))?;
        }
    }
    open_to_all(&bin, 0o755)?;
    open_to_all(staging, 0o755)?;
    durable::sync_folder(&bin)?;
    durable::sync_folder(staging)
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
fn open_to_all(path: &Path, mode: u32) -> Result<(), FileError> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(FileError::of("open", path))
}

#[cfg(not(unix))]
fn open_to_all(_path: &Path, _mode: u32) -> Result<(), FileError> {
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
