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
        take(program, &versions, beside, image)?;
    }
    if offered.is_none_or(|offered| offered < *image) {
        durable::write_line(&note, &image.to_string())?;
    }
    Ok(choice)
}

fn take(
    program: &Path,
    versions: &Versions,
    beside: &Path,
    image: &Version,
) -> Result<(), FileError> {
    let staging = program.join(STAGING);
    // Of a start that was cut off.
    let _ = fs::remove_dir_all(&staging);
    let bin = staging.join("bin");
    fs::create_dir_all(&bin).map_err(FileError::of("make", &bin))?;
    for name in Program::ALL {
        let target = program_path(&staging, name);
        copy(&beside.join(name.file_name()), &target).map_err(FileError::of("write", &target))?;
    }
    durable::sync_folder(&bin)?;
    durable::sync_folder(&staging)?;
    let folder = versions.folder(image);
    let all = folder.parent().unwrap_or(program);
    fs::create_dir_all(all).map_err(FileError::of("make", all))?;
    // Not current, or there would be nothing to take: nobody runs from it.
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(FileError::of("replace", &folder)(error));
        }
        _ => {}
    }
    fs::rename(&staging, &folder).map_err(FileError::of("place", &folder))?;
    durable::sync_folder(program)?;
    versions.point_to(image)
}

/// With its mode, durably.
fn copy(from: &Path, to: &PathBuf) -> io::Result<()> {
    fs::copy(from, to)?;
    File::open(to)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    /// An image's programs, which say in a word what they are.
    fn image(folder: &Path, word: &str) -> PathBuf {
        let beside = folder.join(format!("image-{word}"));
        fs::create_dir_all(&beside).unwrap();
        for program in Program::ALL {
            fs::write(beside.join(program.file_name()), word).unwrap();
        }
        beside
    }

    fn running(volume: &Path) -> String {
        fs::read_to_string(volume.join("versions/current/bin/muster-agent")).unwrap()
    }

    proptest! {
        #[test]
        fn the_newer_of_the_two_runs_unless_the_image_has_had_its_turn(
            image in 0_u64..4, current in 0_u64..4, offered in proptest::option::of(0_u64..4),
        ) {
            let of = |minor| Version::new(0, minor, 0);
            let chosen = choose(&of(image), Some(&of(current)), offered.map(of).as_ref());
            let has_had_its_turn = offered.is_some_and(|offered| offered >= image);
            prop_assert_eq!(chosen == Choice::Take, image > current && !has_had_its_turn);
            prop_assert_eq!(choose(&of(image), None, offered.map(of).as_ref()), Choice::Take);
        }
    }

    #[test]
    fn a_volume_is_filled_and_follows_newer_images_but_not_older_ones() {
        let folder = tempfile::tempdir().unwrap();
        let volume = folder.path().join("volume");
        fs::create_dir(&volume).unwrap();
        let start = |text: &str| {
            offer(&volume, &image(folder.path(), text), &version(text)).unwrap();
            running(&volume)
        };
        assert_eq!(start("0.2.0"), "0.2.0");
        assert_eq!(start("0.2.0"), "0.2.0");
        assert_eq!(start("0.3.0"), "0.3.0");
        assert_eq!(start("0.2.0"), "0.3.0", "an older image over a newer volume");
        assert_eq!(start("0.10.0"), "0.10.0", "versions are numbers, not words");
    }

    #[test]
    fn a_host_that_went_back_by_an_update_stays_there_until_a_newer_image_comes() {
        let folder = tempfile::tempdir().unwrap();
        let volume = folder.path().join("volume");
        fs::create_dir(&volume).unwrap();
        let start = |text: &str| {
            offer(&volume, &image(folder.path(), text), &version(text)).unwrap();
            running(&volume)
        };
        assert_eq!(start("0.2.0"), "0.2.0");
        // An update leaves it so.
        fs::create_dir_all(volume.join("versions/0.1.0")).unwrap();
        fs::rename(image(folder.path(), "0.1.0"), volume.join("versions/0.1.0/bin")).unwrap();
        Versions::new(&volume).point_to(&version("0.1.0")).unwrap();
        assert_eq!(start("0.2.0"), "0.1.0");
        assert_eq!(start("0.2.1"), "0.2.1");
    }

    #[test]
    fn a_version_on_trial_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let volume = folder.path().join("volume");
        fs::create_dir(&volume).unwrap();
        let offer = |text: &str| offer(&volume, &image(folder.path(), text), &version(text));
        offer("0.1.0").unwrap();
        fs::write(volume.join("trial.json"), "{}").unwrap();
        assert_eq!(offer("0.2.0").unwrap(), Choice::Keep);
        assert_eq!(running(&volume), "0.1.0");
        fs::remove_file(volume.join("trial.json")).unwrap();
        assert_eq!(offer("0.2.0").unwrap(), Choice::Take, "it was not counted as offered");
    }

    #[test]
    fn what_was_cut_off_or_damaged_is_made_whole() {
        let folder = tempfile::tempdir().unwrap();
        let volume = folder.path().join("volume");
        // Killed while it copied; and half a version, as an engine's copy may leave it.
        fs::create_dir_all(volume.join(".image/bin")).unwrap();
        fs::write(volume.join(".image/bin/muster-agent"), "half").unwrap();
        fs::create_dir_all(volume.join("versions/0.1.0/bin")).unwrap();
        offer(&volume, &image(folder.path(), "0.1.0"), &version("0.1.0")).unwrap();
        assert_eq!(running(&volume), "0.1.0");
        assert!(!volume.join(".image").exists());
    }

    #[test]
    fn a_volume_that_can_not_be_written_is_an_error_that_names_the_place() {
        let folder = tempfile::tempdir().unwrap();
        let volume = folder.path().join("volume");
        fs::write(&volume, "a file").unwrap();
        let error = offer(&volume, &image(folder.path(), "0.1.0"), &version("0.1.0"));
        assert!(error.unwrap_err().to_string().contains("volume"));
    }
}
