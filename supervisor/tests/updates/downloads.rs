//! What is downloaded, in which order, and what of it is kept.

use std::fs;
use std::os::unix::fs::symlink;

use crate::installation::{GOOD, Installation, REQUESTS_UPDATE, write_script};

#[test]
fn programs_are_downloaded_only_after_the_documents_are_verified() {
    let mut installation = Installation::new(REQUESTS_UPDATE, GOOD);
    let path = installation.path("release/release.json");
    let altered = fs::read_to_string(&path).unwrap().replace("0.0.1", "0.0.2");
    fs::write(&path, altered).unwrap();
    let mut running = installation.start();
    running.runs("0.1.0");
    running.runs("0.1.0");
    installation.expect_result("refused", "bad_signature", "0.1.0");
    assert_eq!(installation.fetched(), "documents\n");
    assert!(!installation.has_staging());
    running.stop();
}

#[test]
fn abandoned_download_is_removed_at_a_start_without_an_update_request() {
    let mut installation = Installation::new(REQUESTS_UPDATE, GOOD);
    let left = installation.path(".release-0.9.0/bin");
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("muster-agent"), "half a program").unwrap();
    fs::write(installation.path("requested"), "").unwrap();
    let mut running = installation.start();
    running.runs("0.1.0");
    assert!(!installation.has_staging());
    running.stop();
}

#[test]
fn resumable_download_is_kept_and_any_other_is_removed() {
    for (code, stays) in [("download_failed", true), ("no_space", false), ("no_release", false)] {
        let mut installation = Installation::new(REQUESTS_UPDATE, GOOD);
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
        installation.expect_result("failed", code, "0.1.0");
        assert_eq!(installation.has_staging(), stays, "{code}");
        running.stop();
    }
}

#[test]
fn programs_behind_a_link_are_rejected() {
    let mut installation = Installation::new(REQUESTS_UPDATE, GOOD);
    fs::rename(installation.path("release/bin"), installation.path("elsewhere")).unwrap();
    symlink(installation.path("elsewhere"), installation.path("release/bin")).unwrap();
    let mut running = installation.start();
    running.runs("0.1.0");
    running.runs("0.1.0");
    installation.expect_result("failed", "download_failed", "0.1.0");
    assert!(!installation.path("versions/0.2.0").exists());
    running.stop();
}

#[test]
fn files_that_the_descriptor_does_not_list_are_not_installed() {
    let mut installation = Installation::new(REQUESTS_UPDATE, GOOD);
    fs::write(installation.path("release/bin/stowaway"), "").unwrap();
    let mut running = installation.start();
    running.runs("0.1.0");
    running.runs("0.2.0");
    installation.expect_result("installed", "", "0.2.0");
    assert!(!installation.path("versions/0.2.0/bin/stowaway").exists());
    running.stop();
}
