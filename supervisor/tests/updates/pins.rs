//! The pinned key and floor, and errors in them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use muster_protocol::release::SigningKey;

use crate::installation::{GOOD, Installation, REQUESTS_UPDATE};

fn expect_pins_rejected(prepare: impl FnOnce(&Path)) {
    let mut installation = Installation::new(REQUESTS_UPDATE, GOOD);
    let stranger = SigningKey::read(&SigningKey::generate().unwrap()).unwrap();
    installation.sign(&stranger);
    let pin = installation.path("release_key");
    let before = fs::read_to_string(&pin).unwrap();
    prepare(&installation.path(""));
    let mut running = installation.start();
    running.runs("0.1.0");
    running.runs("0.1.0");
    installation.expect_result("refused", "bad_pin", "0.1.0");
    assert_eq!(installation.fetched(), "documents\n", "programs on the word of a stranger");
    assert!(!installation.has_staging());
    let after = fs::read_to_string(&pin).unwrap_or_default();
    assert!(after == before || after.len() < 64, "another key is pinned: {after}");
    running.stop();
}

#[test]
fn pinned_key_behind_a_link_is_an_error_and_not_a_missing_key() {
    expect_pins_rejected(|folder| {
        fs::rename(folder.join("release_key"), folder.join("managed")).unwrap();
        symlink("managed", folder.join("release_key")).unwrap();
    });
}

#[test]
fn empty_pinned_key_is_an_error_and_not_a_missing_key() {
    expect_pins_rejected(|folder| fs::write(folder.join("release_key"), "").unwrap());
}

#[test]
fn malformed_pinned_key_is_an_error_and_not_a_missing_key() {
    expect_pins_rejected(|folder| fs::write(folder.join("release_key"), "\u{fffd}").unwrap());
}

#[test]
fn malformed_floor_is_an_error_and_not_a_missing_floor() {
    expect_pins_rejected(|folder| fs::write(folder.join("release_floor"), "soon\n").unwrap());
}

#[test]
fn first_key_is_pinned_only_if_it_arrived_over_a_verified_connection() {
    let mut installation = Installation::new(REQUESTS_UPDATE, GOOD);
    let pin = fs::read_to_string(installation.path("release_key")).unwrap();
    fs::remove_file(installation.path("release_key")).unwrap();
    let mut running = installation.start();
    running.runs("0.1.0");
    running.runs("0.2.0");
    installation.expect_result("installed", "", "0.2.0");
    assert_eq!(fs::read_to_string(installation.path("release_key")).unwrap(), pin);
    assert_eq!(fs::read_to_string(installation.path("release_floor")).unwrap(), "0.0.1\n");
    running.stop();

    let mut installation = Installation::new(REQUESTS_UPDATE, GOOD);
    fs::remove_file(installation.path("release_key")).unwrap();
    fs::write(installation.path("release/fetched.json"), "{}").unwrap();
    let mut running = installation.start();
    running.runs("0.1.0");
    installation.expect_result("refused", "untrusted_key", "0.1.0");
    assert_eq!(installation.fetched(), "documents\n");
    running.stop();
}
