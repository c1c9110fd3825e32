//! A container's programs: those of its image, and those of the volume that outlives it. Which of
//! the two runs, and how the image's come into the volume.
//!
//! Knows files; starts no process. What came into the volume by an update stays: an image counts
//! once, when it is new to the volume. Killed at any step, the volume is as it was or as it is to
//! be, and the next start goes on.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use muster_protocol::release::{Program, Version};

use super::durable::{self, FileError};
use super::package::program_path;
use super::trial::Trial;
use super::versions::Versions;

/// The newest image whose programs this volume was offered.
const IMAGE_FILE: &str = "image_version";
/// Held by whoever looks at the volume.
const LOCK_FILE: &str = ".image_lock";
/// What is being copied.
const STAGING: &str = ".image";

/// What is to be done with the programs of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// They come into the volume and run.
    Take,
    /// The volume's own run.
    Keep,
}

/// Chooses between an image and a volume.
///
/// The image is taken into a volume without a version, or if it is newer than what is current
/// there *and* than every image that was offered before: a host that was brought back to an older
/// release stays there when its container starts again, until it gets a newer image.
pub fn choose(image: &Version, current: Option<&Version>, offered: Option<&Version>) -> Choice {
    let is_newer = current.is_none_or(|current| current < image);
    let is_new = current.is_none() || offered.is_none_or(|offered| offered < image);
    if is_newer && is_new { Choice::Take } else { Choice::Keep }
}

/// Brings the programs of an image into the volume `program` if they are to run.
///
/// `beside` is the folder of the image's programs, `image` their version.
///
/// # Errors
/// [`FileError`]; what was current in the volume is so still.
pub fn offer(program: &Path, beside: &Path, image: &Version) -> Result<Choice, FileError> {
    let _turn = take_turn(program)?;
    let versions = Versions::new(program);
    let note = program.join(IMAGE_FILE);
    let offered = durable::read_line(&note).and_then(|line| line.parse::<Version>().ok());
    // A volume that lost what its link names has none.
    let current = versions.current().filter(|current| {
        Program::ALL.iter().all(|program| versions.binary(current, *program).is_file())
    });
    // What is on trial is for its own supervisor to judge. The image waits for another start.
    if current.is_some() && Trial::is_noted(program) {
        return Ok(Choice::Keep);
    }
    let choice = choose(image, current.as_ref(), offered.as_ref());
    if choice == Choice::Take {
        let staging = program.join(STAGING);
        take(&staging, &versions, beside, image).inspect_err(|_| {
            // Half a version is of no use and takes room.
            let _ = fs::remove_dir_all(&staging);
        })?;
        let kept: Vec<_> = [Some(image), current.as_ref()].into_iter().flatten().collect();
        versions.prune(&kept);
    }
    if offered.is_none_or(|offered| offered < *image) {
        durable::write_line(&note, &image.to_string())?;
    }
    Ok(choice)
}

/// Two containers may be started on one volume by mistake: one at a time, or they would copy into each
/// other's folder. Given back when dropped, and by the kernel when the process ends.
fn take_turn(program: &Path) -> Result<File, FileError> {
    let path = program.join(LOCK_FILE);
    let locked = File::options().create(true).append(true).open(&path).and_then(|file| {
        file.try_lock().map_err(io::Error::from)?;
        Ok(file)
    });
    locked.map_err(FileError::of("take a turn at", &path))
}

fn take(
    staging: &Path,
    versions: &Versions,
    beside: &Path,
    image: &Version,
) -> Result<(), FileError> {
    // Of a start that was cut off.
    let _ = fs::remove_dir_all(staging);
    let bin = staging.join("bin");
    fs::create_dir_all(&bin).map_err(FileError::of("make", &bin))?;
    for name in Program::ALL {
        let target = program_path(staging, name);
        copy(&beside.join(name.file_name()), &target).map_err(FileError::of("write", &target))?;
    }
    durable::sync_folder(&bin)?;
    durable::sync_folder(staging)?;
    let folder = versions.folder(image);
    let all = folder.parent().unwrap_or(staging);
    fs::create_dir_all(all).map_err(FileError::of("make", all))?;
    // Not current, or there would be nothing to take: nobody runs from it.
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(FileError::of("replace", &folder)(error));
        }
        _ => {}
    }
    fs::rename(staging, &folder).map_err(FileError::of("place", &folder))?;
    versions.point_to(image)
}

/// With its mode, durably.
fn copy(from: &Path, to: &PathBuf) -> io::Result<()> {
    fs::copy(from, to)?;
    File::open(to)?.sync_all()
}

#[cfg(test)]
mod tests;
