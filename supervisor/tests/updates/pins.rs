//! What a host trusts, and what keeps it from knowing that.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use muster_protocol::release::SigningKey;

use crate::installation::{GOOD, Installation, WISHES};

fn is_refused(prepare: impl FnOnce(&Path)) {
    let mut installation = Installation::new(WISHES, GOOD);
    let stranger = SigningKey::read(&SigningKey::generate().unwrap()).unwrap();
    installation.sign(&stranger);
    let pin = installation.path("release_key");
    let before = fs::read_to_string(&pin).unwrap();
    prepare(&installation.path(""));
    let mut running = installation.start();
    running.runs("0.1.0");
    running.runs("0.1.0");
    installation.ends("refused", "bad_pin", "0.1.0");
    assert_eq!(installation.fetched(), "documents\n", "programs on the word of a stranger");
    assert!(!installation.has_staging());
    let after = fs::read_to_string(&pin).unwrap_or_default();
    assert!(after == before || after.len() < 64, "another key is pinned: {after}");
    running.stop();
}

#[test]
fn a_pinned_key_behind_a_link_is_not_taken_for_none() {
    is_refused(|folder| {
        fs::rename(folder.join("release_key"), folder.join("managed")).unwrap();
        symlink("managed", folder.join("release_key")).unwrap();
    });
}

#[test]
fn a_pinned_key_that_a_power_cut_left_empty_is_not_taken_for_none() {
    is_refused(|folder| fs::write(folder.join("release_key"), "").unwrap());
}

#[test]
fn a_pinned_key_that_makes_no_sense_is_not_taken_for_none() {
    is_refused(|folder| fs::write(folder.join("release_key"), "\u{fffd}").unwrap());
}

#[test]
fn a_floor_that_makes_no_sense_is_not_taken_for_none() {
    is_refused(|folder| fs::write(folder.join("release_floor"), "soon\n").unwrap());
}

#[test]
fn where_none_is_pinned_the_first_key_over_a_verified_way_is_and_no_other_way_counts() {
    let mut installation = Installation::new(WISHES, GOOD);
    let pin = fs::read_to_string(installation.path("release_key")).unwrap();
    fs::remove_file(installation.path("release_key")).unwrap();
    let mut running = installation.start();
    running.runs("0.1.0");
    running.runs("0.2.0");
    installation.ends("installed", "", "0.2.0");
    assert_eq!(fs::read_to_string(installation.path("release_key")).unwrap(), pin);
    assert_eq!(fs::read_to_string(installation.path("release_floor")).unwrap(), "0.0.1\n");
    running.stop();

    let mut installation = Installation::new(WISHES, GOOD);
    fs::remove_file(installation.path("release_key")).unwrap();
    fs::write(installation.path("release/fetched.json"), "{}").unwrap();
    let mut running = installation.start();
    running.runs("0.1.0");
    installation.ends("refused", "untrusted_key", "0.1.0");
    assert_eq!(installation.fetched(), "documents\n");
    running.stop();
}
