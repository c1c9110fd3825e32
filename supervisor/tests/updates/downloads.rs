//! What is fetched when, and what of it stays.

use std::fs;
use std::os::unix::fs::symlink;

use crate::installation::{GOOD, Installation, WISHES, write_script};

#[test]
fn programs_are_fetched_only_on_the_word_of_documents_that_are_good() {
    let mut installation = Installation::new(WISHES, GOOD);
    let path = installation.path("release/release.json");
    let altered = fs::read_to_string(&path).unwrap().replace("0.0.1", "0.0.2");
    fs::write(&path, altered).unwrap();
    let mut running = installation.start();
    running.runs("0.1.0");
    running.runs("0.1.0");
    installation.ends("refused", "bad_signature", "0.1.0");
    assert_eq!(installation.fetched(), "documents\n");
    assert!(!installation.has_staging());
    running.stop();
}

#[test]
fn what_an_abandoned_download_has_left_goes_at_a_start_that_has_no_wish() {
    let mut installation = Installation::new(WISHES, GOOD);
    let left = installation.path(".release-0.9.0/bin");
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("muster-agent"), "half a program").unwrap();
    fs::write(installation.path("wished"), "").unwrap();
    let mut running = installation.start();
    running.runs("0.1.0");
    assert!(!installation.has_staging());
    running.stop();
}

#[test]
fn a_download_that_can_be_gone_on_with_stays_and_one_that_can_not_goes() {
    for (code, stays) in [("download_failed", true), ("no_space", false), ("no_release", false)] {
        let mut installation = Installation::new(WISHES, GOOD);
        let agent = installation.path("versions/0.1.0/bin/muster-agent");
        let script = fs::read_to_string(&agent).unwrap();
        let told = format!(r#"{{"code": "{code}", "message": "told"}}"#);
        let fails = format!("programs) printf '{told}' >\"$into/fetch_error.json\"; exit 1 ;;");
        let body = script.replace("programs) cp -R -P release/bin \"$into\" ;;", &fails);
        assert_ne!(body, script);
        write_script(&agent, &body);
        let mut running = installation.start();
        running.runs("0.1.0");
        running.runs("0.1.0");
        installation.ends("failed", code, "0.1.0");
        assert_eq!(installation.has_staging(), stays, "{code}");
        running.stop();
    }
}

#[test]
fn programs_behind_a_link_are_not_taken() {
    let mut installation = Installation::new(WISHES, GOOD);
    fs::rename(installation.path("release/bin"), installation.path("elsewhere")).unwrap();
    symlink(installation.path("elsewhere"), installation.path("release/bin")).unwrap();
    let mut running = installation.start();
    running.runs("0.1.0");
    running.runs("0.1.0");
    installation.ends("failed", "download_failed", "0.1.0");
    assert!(!installation.path("versions/0.2.0").exists());
    running.stop();
}

#[test]
fn what_the_manifest_does_not_name_is_not_installed() {
    let mut installation = Installation::new(WISHES, GOOD);
    fs::write(installation.path("release/bin/stowaway"), "").unwrap();
    let mut running = installation.start();
    running.runs("0.1.0");
    running.runs("0.2.0");
    installation.ends("installed", "", "0.2.0");
    assert!(!installation.path("versions/0.2.0/bin/stowaway").exists());
    running.stop();
}
