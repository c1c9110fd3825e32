//! The first installation: the host's openssl checks the signature before a downloaded program
//! runs.

use std::fs;

use muster_protocol::release::Program;
use muster_tests::{Manager, Publisher};

use super::{NewHost, complaint, new_files};

const OWN: &str = env!("CARGO_PKG_VERSION");
const STRANGE_KEY: &str = "00000000000000000000000000000000000000000000000000000000000000ff";

/// Installs a curl on the host that changes downloads as a compromised server would: `CHANGES` are
/// branches of a `case` on the name of the downloaded file, `$2`.
fn take_over_downloads(new_host: &NewHost, changes: &str) {
    let curl = format!(
        "#!/bin/sh\n/usr/bin/curl \"$@\" || exit\n\
        while [ $# -gt 0 ]; do case $1 in -o) case $2 in\n{changes}\nesac;; esac; shift; done\n"
    );
    let path = new_host.host.file("/usr/local/bin/curl");
    fs::write(&path, curl).expect("written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(path, mode).expect("executable");
}

/// A branch that returns the file `evil` as the agent, with matching checksums.
fn other_agent(evil: &str) -> String {
    format!(
        "*/bin/muster-agent) cp {evil} \"$2\" ;;\n\
        */sums) sum=$(sha256sum <{evil} | cut -c 1-64); sed -i \"s/^.*  muster-agent/$sum  muster-agent/\" \"$2\" ;;"
    )
}

#[tokio::test]
async fn a_program_that_differs_from_what_was_signed_never_runs() {
    let new_host = NewHost::on(Manager::Bare).await;
    let publisher = Publisher::new(&new_host.fixture).await;
    publisher.release(OWN).await;
    let before = new_host.host.changes();
    let script = format!("touch /srv/ran; echo muster-agent {OWN}; exit");
    publisher.replace(OWN, Program::Agent, &script);
    let evil = publisher.programs(OWN).join("muster-agent");
    let evil = other_agent(evil.to_str().expect("plain text"));
    let manifest = "*/release.json) sed -i 's/\"created_at\"/ \"created_at\"/' \"$2\" ;;";
    let key = publisher.fingerprint();
    let trusted = format!("--release-key {key}");
    for (changes, words, expected) in [
        (evil.clone(), trusted.as_str(), "wrong_sum"),
        // Even without a key to compare with, the signature must match the programs.
        (evil, "", "wrong_sum"),
        (manifest.to_owned(), trusted.as_str(), "bad_signature"),
        (":) ;;".to_owned(), &format!("--release-key {STRANGE_KEY}"), "untrusted_key"),
        // An older release that the key has signed as well.
        (":) ;;".to_owned(), &format!("{trusted} --min-version 99.0.0"), "below_floor"),
    ] {
        take_over_downloads(&new_host, &changes);
        let line = new_host.line(&format!("--key {} {words}", new_host.key));
        let refused = new_host.host.run(&line).await;
        refused.expect(1);
        let reason = complaint(&refused);
        assert!(reason.contains(expected), "{expected}: {}", refused.stderr);
        // Otherwise a program of the release refused it, and was run for that.
        let is_early = expected == "untrusted_key" || reason.contains("none of its programs");
        assert!(is_early, "{expected}: {}", refused.stderr);
        new_host.host.run("test ! -e /srv/ran && rm /usr/local/bin/curl").await.expect(0);
        let left = new_files(&before, &new_host.host.changes());
        let left: Vec<_> = left.iter().filter(|path| *path != "/usr/local/bin/curl").collect();
        assert!(left.is_empty(), "{expected}: {left:#?}");
    }
}

#[tokio::test]
async fn a_release_is_confirmed_also_by_statements_that_lead_to_its_key() {
    let new_host = NewHost::on(Manager::Bare).await;
    let publisher = Publisher::new(&new_host.fixture).await;
    // Statements of key changes, starting with the previous release's key.
    publisher.release("0.0.9").await;
    for (old, new) in [("key", "second"), ("second", "third")] {
        publisher.make_key(new).await;
        let (old, new) = (publisher.key(old), publisher.key(new));
        let text = |path: &std::path::Path| path.to_str().expect("plain text").to_owned();
        let (old, new) = (text(&old), text(&new));
        let rotate = ["release", "rotate-key", "--key", &old, "--new", &new];
        publisher.cli.run(&rotate).await.expect(0);
    }
    publisher.make(OWN, "0.0.0").await;
    publisher.sign(OWN, "third").await.expect(0);
    publisher.publish(OWN).await.expect(0);
    let key = publisher.fingerprint();
    let line = new_host.line(&format!("--key {} --release-key {key}", new_host.key));
    let printed = new_host.host.run(&line).await.expect(0);
    assert!(
        printed.contains(&format!("openssl confirms the signature of release {OWN}")),
        "{printed}"
    );
    new_host.fixture.online(&new_host.key_id).await;
}

#[tokio::test]
async fn a_host_without_openssl_leaves_the_check_to_the_programs() {
    let new_host = NewHost::on(Manager::Bare).await;
    let publisher = Publisher::new(&new_host.fixture).await;
    publisher.release(OWN).await;
    new_host.host.run("mv /usr/bin/openssl /usr/bin/openssl.away").await.expect(0);
    let key = publisher.fingerprint();
    let line = new_host.line(&format!("--key {} --release-key {key}", new_host.key));
    let printed = new_host.host.run(&line).await.expect(0);
    assert!(printed.contains(&format!("is signed by the key {key}")), "{printed}");
    assert!(!printed.contains("openssl"), "{printed}");
}
