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
    fn image_is_installed_only_if_newer_than_the_volume_and_than_every_offered_image(
        image in 0_u64..4, current in 0_u64..4, offered in proptest::option::of(0_u64..4),
    ) {
        let of = |minor| Version::new(0, minor, 0);
        let chosen = choose(&of(image), Some(&of(current)), offered.map(of).as_ref());
        let has_had_its_turn = offered.is_some_and(|offered| offered >= image);
        prop_assert_eq!(chosen == ImageChoice::Install, image > current && !has_had_its_turn);
        prop_assert_eq!(choose(&of(image), None, offered.map(of).as_ref()), ImageChoice::Install);
    }
}

#[test]
fn volume_is_filled_and_takes_newer_images_but_not_older_ones() {
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
    assert!(
        !volume.join("versions/0.2.0").exists(),
        "a version that is not rolled back to takes space"
    );
    assert!(volume.join("versions/0.3.0").exists());
}

#[test]
fn downgraded_volume_keeps_its_version_until_a_newer_image_is_started() {
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
fn image_is_not_installed_during_a_trial() {
    let folder = tempfile::tempdir().unwrap();
    let volume = folder.path().join("volume");
    fs::create_dir(&volume).unwrap();
    let offer = |text: &str| offer(&volume, &image(folder.path(), text), &version(text));
    offer("0.1.0").unwrap();
    fs::write(volume.join("trial.json"), "{}").unwrap();
    assert_eq!(offer("0.2.0").unwrap(), ImageChoice::Skip);
    assert_eq!(running(&volume), "0.1.0");
    fs::remove_file(volume.join("trial.json")).unwrap();
    assert_eq!(offer("0.2.0").unwrap(), ImageChoice::Install, "it was not counted as offered");
}

#[test]
fn interrupted_or_damaged_installation_is_repaired() {
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
fn second_container_on_a_volume_is_refused_while_the_first_copies() {
    let folder = tempfile::tempdir().unwrap();
    let volume = folder.path().join("volume");
    fs::create_dir(&volume).unwrap();
    let beside = image(folder.path(), "0.1.0");
    let turn = lock_volume(&volume).unwrap();
    offer(&volume, &beside, &version("0.1.0")).unwrap_err();
    assert!(!volume.join("versions").exists());
    drop(turn);
    assert_eq!(offer(&volume, &beside, &version("0.1.0")).unwrap(), ImageChoice::Install);
}

#[test]
fn failed_copy_leaves_the_current_version_and_no_partial_one() {
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
fn error_for_an_unwritable_volume_names_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let volume = folder.path().join("volume");
    fs::write(&volume, "a file").unwrap();
    let error = offer(&volume, &image(folder.path(), "0.1.0"), &version("0.1.0"));
    assert!(error.unwrap_err().to_string().contains("volume"));
}
