//! A container's programs: chooses between those of its image and those of its volume, and copies
//! the image's programs into the volume.
//!
//! Works on files and starts no process. A version that an update installed stays: an image counts
//! only once, when it is new to the volume. If the process is killed at any step, the volume has
//! either the old or the new version, and the next start continues.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use muster_protocol::release::{Program, Version};

use super::durable_file::{self, FileError};
use super::package::program_path;
use super::trial_record::TrialRecord;
use super::versions::Versions;

/// The newest image version that this volume was offered.
const IMAGE_FILE: &str = "image_version";
/// Locked while a process works on the volume.
const LOCK_FILE: &str = ".image_lock";
/// The folder that programs are copied to first.
const STAGING: &str = ".image";

/// What happens to the programs of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageChoice {
    /// They are installed in the volume and run.
    Install,
    /// The volume's own programs run.
    Skip,
}

/// Chooses between the image's and the volume's programs.
///
/// The image is installed if the volume has no version, or if it is newer than the current version
/// *and* newer than every image offered before. A host that was downgraded by an update therefore
/// keeps that release when its container restarts, until it gets a newer image.
pub fn choose(
    image: &Version,
    current: Option<&Version>,
    offered: Option<&Version>,
) -> ImageChoice {
    let is_newer = current.is_none_or(|current| current < image);
    let is_new = current.is_none() || offered.is_none_or(|offered| offered < image);
    if is_newer && is_new { ImageChoice::Install } else { ImageChoice::Skip }
}

/// Installs the programs of an image in the volume `program` if they must run.
///
/// `beside` is the folder of the image's programs; `image` is their version.
///
/// # Errors
/// [`FileError`]; the volume's current version is unchanged.
pub fn offer(program: &Path, beside: &Path, image: &Version) -> Result<ImageChoice, FileError> {
    let _lock = lock_volume(program)?;
    let versions = Versions::new(program);
    let note = program.join(IMAGE_FILE);
    let offered = durable_file::read_line(&note).and_then(|line| line.parse::<Version>().ok());
    // A link to missing programs counts as no version.
    let current = versions.current().filter(|current| {
        Program::ALL.iter().all(|program| versions.binary(current, *program).is_file())
    });
    // The supervisor of the volume decides a trial. The image waits for another start.
    if current.is_some() && TrialRecord::exists(program) {
        return Ok(ImageChoice::Skip);
    }
    let choice = choose(image, current.as_ref(), offered.as_ref());
    if choice == ImageChoice::Install {
        let staging = program.join(STAGING);
        install(&staging, &versions, beside, image).inspect_err(|_| {
            // An incomplete version is useless and takes space.
            let _ = fs::remove_dir_all(&staging);
        })?;
        let kept: Vec<_> = [Some(image), current.as_ref()].into_iter().flatten().collect();
        versions.prune(&kept);
    }
    if offered.is_none_or(|offered| offered < *image) {
        durable_file::write_line(&note, &image.to_string())?;
    }
    Ok(choice)
}

/// Locks the volume: two containers started on one volume by mistake would copy into each other's
/// folder. Released on drop, and by the kernel when the process ends.
fn lock_volume(program: &Path) -> Result<File, FileError> {
    let path = program.join(LOCK_FILE);
    let locked = File::options().create(true).append(true).open(&path).and_then(|file| {
        file.try_lock().map_err(io::Error::from)?;
        Ok(file)
    });
    locked.map_err(FileError::of("lock", &path))
}

fn install(
    staging: &Path,
    versions: &Versions,
    beside: &Path,
    image: &Version,
) -> Result<(), FileError> {
    // Left by an interrupted start.
    let _ = fs::remove_dir_all(staging);
    let bin = staging.join("bin");
    fs::create_dir_all(&bin).map_err(FileError::of("create", &bin))?;
    for name in Program::ALL {
        let target = program_path(staging, name);
        copy(&beside.join(name.file_name()), &target).map_err(FileError::of("write", &target))?;
    }
    durable_file::sync_folder(&bin)?;
    durable_file::sync_folder(staging)?;
    let folder = versions.folder(image);
    let all = folder.parent().unwrap_or(staging);
    fs::create_dir_all(all).map_err(FileError::of("create", all))?;
    // It is not current, so no process runs from it.
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(FileError::of("replace", &folder)(error));
        }
        _ => {}
    }
    fs::rename(staging, &folder).map_err(FileError::of("place", &folder))?;
    versions.point_to(image)
}

/// Copies a file with its mode, durably.
fn copy(from: &Path, to: &PathBuf) -> io::Result<()> {
    fs::copy(from, to)?;
    File::open(to)?.sync_all()
}

#[cfg(test)]
mod tests;
