//! The pinned key and floor, and errors in them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use muster_protocol::release::SigningKey;

use crate::installation::{COMMAND, GOOD, Installation, REQUESTS_UPDATE, write_script};

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

/// Requests an update, and another one whenever the file `again` appears.
const REQUESTS_AGAIN: &str = "request; register
while [ ! -e again ]; do sleep 0.02; done
rm again; cp request \"$MUSTER_STATE_DIR/update_request.json\"; exit 43";

/// A server that was taken over offers an older release, which the release key has signed as well.
#[test]
fn floor_of_a_verified_release_holds_even_if_that_release_was_rolled_back() {
    let mut installation = Installation::new(REQUESTS_AGAIN, GOOD);
    let key = SigningKey::read(&SigningKey::generate().unwrap()).unwrap();
    installation.pin(&key);
    let agent = installation.path("release/bin/muster-agent");
    let fetch = fs::read_to_string(&agent).unwrap();
    write_script(&agent, "exit 1");
    installation.sign_as(&key, "0.2.0", "0.2.0");
    let mut running = installation.start();
    running.runs("0.1.0");
    running.runs("0.1.0");
    installation.expect_result("rolled_back", "does_not_start", "0.1.0");
    let floor = || fs::read_to_string(installation.path("release_floor")).unwrap();
    assert_eq!(floor(), "0.2.0\n");

    let request_again = |version: &str, floor: &str| {
        installation.sign_as(&key, version, floor);
        let request = serde_json::json!({"command_id": COMMAND, "version": version});
        fs::write(installation.path("request"), request.to_string()).unwrap();
        fs::remove_file(installation.path("state/update_result.json")).unwrap();
        fs::write(installation.path("again"), "").unwrap();
    };
    fs::write(&agent, &fetch).unwrap();
    request_again("0.1.5", "0.0.1");
    running.runs("0.1.0");
    installation.expect_result("refused", "below_floor", "0.1.0");

    // The running version can still be repaired, which lowers nothing.
    let current = installation.path("versions/0.1.0/bin/muster-agent");
    fs::copy(current, &agent).unwrap();
    request_again("0.1.0", "0.0.1");
    running.runs("0.1.0");
    let outcome = installation.result()["outcome"].clone();
    assert!(outcome == "installed" || outcome == "unchanged", "{outcome}");
    assert_eq!(floor(), "0.2.0\n");
    running.stop();
}
