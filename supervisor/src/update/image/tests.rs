//! Images over volumes, as files.

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
    assert!(!volume.join("versions/0.2.0").exists(), "what nobody goes back to takes room");
    assert!(volume.join("versions/0.3.0").exists());
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
fn of_two_containers_that_start_on_one_volume_one_waits_its_turn() {
    let folder = tempfile::tempdir().unwrap();
    let volume = folder.path().join("volume");
    fs::create_dir(&volume).unwrap();
    let beside = image(folder.path(), "0.1.0");
    let turn = take_turn(&volume).unwrap();
    offer(&volume, &beside, &version("0.1.0")).unwrap_err();
    assert!(!volume.join("versions").exists());
    drop(turn);
    assert_eq!(offer(&volume, &beside, &version("0.1.0")).unwrap(), Choice::Take);
}

#[test]
fn a_copy_that_fails_leaves_what_was_and_nothing_half() {
    let folder = tempfile::tempdir().unwrap();
    let volume = folder.path().join("volume");
    fs::create_dir(&volume).unwrap();
    offer(&volume, &image(folder.path(), "0.1.0"), &version("0.1.0")).unwrap();
    let beside = image(folder.path(), "0.2.0");
    fs::remove_file(beside.join("muster-agent")).unwrap();
    offer(&volume, &beside, &version("0.2.0")).unwrap_err();
    assert_eq!(running(&volume), "0.1.0");
    assert!(!volume.join(".image").exists() && !volume.join("versions/0.2.0").exists());
}

#[test]
fn a_volume_that_can_not_be_written_is_an_error_that_names_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let volume = folder.path().join("volume");
    fs::write(&volume, "a file").unwrap();
    let error = offer(&volume, &image(folder.path(), "0.1.0"), &version("0.1.0"));
    assert!(error.unwrap_err().to_string().contains("volume"));
}
