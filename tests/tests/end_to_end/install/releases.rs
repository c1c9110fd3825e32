//! Signed releases on hosts: installations are verified, and the host's owner can request versions.

use std::fs;

use muster_protocol::release::Program;
use muster_tests::{JsonFields as _, Manager, Publisher, eventually};
use serde_json::{Value, json};

use super::{DEPLOY, NewHost, complaint, new_files};

const OWN: &str = env!("CARGO_PKG_VERSION");
const STRANGE_KEY: &str = "00000000000000000000000000000000000000000000000000000000000000ff";

/// A host whose server has published the version under test.
async fn new_host(manager: Manager) -> (NewHost, Publisher) {
    let new_host = NewHost::on(manager).await;
    let publisher = Publisher::new(&new_host.fixture).await;
    publisher.release(OWN).await;
    (new_host, publisher)
}

/// A host with this release, which trusts its key and has short trials. Returns the agent.
async fn installed(new_host: &NewHost, publisher: &Publisher) -> Value {
    let key = format!("--key {} --release-key {}", new_host.key, publisher.fingerprint());
    new_host.host.run(&new_host.line(&key)).await.expect(0);
    let knobs = "MUSTER_TRIAL_MS='10000'\nMUSTER_BACKOFF_MAX_MS='200'\n";
    let set = format!("printf %s \"{knobs}\" >>/etc/muster/agent.env && {DEPLOY} --start");
    new_host.host.run(&set).await.expect(0);
    new_host.fixture.online(&new_host.key_id).await
}

impl NewHost {
    /// Runs this command. Returns its exit code and its last complaint.
    async fn refused(&self, command: &str) -> String {
        let said = self.host.run(command).await;
        assert_ne!(said.code, Some(0), "{command}: {}", String::from_utf8_lossy(&said.stdout));
        complaint(&said).to_owned()
    }

    async fn current(&self) -> String {
        let read = self.host.run("readlink /opt/muster/versions/current").await;
        read.expect(0).trim().to_owned()
    }
}

#[tokio::test]
async fn owner_updates_the_agent_while_its_execution_continues() {
    let (new_host, publisher) = new_host(Manager::Systemd).await;
    let agent = installed(&new_host, &publisher).await;
    let id = agent.id();
    let said = new_host.host.run(&format!("{DEPLOY} --update")).await.expect(0);
    assert!(said.contains(&format!("{OWN} is already running")), "{said}");
    let body = "echo begun; while [ ! -e /tmp/go ]; do sleep 0.1; done; echo done";
    new_host.allow("long", body).await;
    let run = new_host.fixture.api.execute(id, "long", json!({})).await;
    new_host.fixture.api.output_reaches(&run, 6).await;

    publisher.release("0.9.7").await;
    let said = new_host.host.run(&format!("{DEPLOY} --update")).await.expect(0);
    assert!(said.contains(&format!("updated from {OWN} to 0.9.7")), "{said}");
    eventually("the server knows what came of it", async || {
        let agent = new_host.fixture.online(&new_host.key_id).await;
        let is_it = agent["version"] == "0.9.7" && agent["update"]["outcome"] == "installed";
        is_it.then_some(())
    })
    .await;
    let back = new_host.host.run(&format!("{DEPLOY} --update --version {OWN}")).await.expect(0);
    assert!(back.contains(&format!("updated from 0.9.7 to {OWN}")), "{back}");
    assert_eq!(new_host.current().await, OWN);
    new_host.host.run("touch /tmp/go").await.expect(0);
    assert_eq!(new_host.fixture.api.finished(&run).await["state"], "succeeded");
    assert_eq!(new_host.fixture.api.output(&run).await, b"begun\ndone\n");

    // The desired version of the agent's group takes precedence over the newest release.
    let group = json!({"name": "all", "target": {"expression": "all"}, "desired_version": OWN});
    new_host.fixture.api.post("/api/groups", group).await.expect(201);
    let said = new_host.host.run(&format!("{DEPLOY} --update")).await.expect(0);
    assert!(said.contains(&format!("{OWN} is already running")), "{said}");
    let before = new_host.host.changes();
    new_host.host.run(&format!("{DEPLOY} --uninstall")).await.expect(0);
    let left: Vec<_> = before.iter().filter(|path| path.starts_with("/opt/muster")).collect();
    assert!(!left.is_empty());
    new_host.host.run("test ! -e /opt/muster").await.expect(0);
}

#[tokio::test]
async fn failed_update_keeps_the_old_version_running_with_a_reason() {
    let (new_host, publisher) = new_host(Manager::Systemd).await;
    installed(&new_host, &publisher).await;
    publisher.replace("0.9.7", Program::Agent, "[ \"$1\" = version ]");
    publisher.release("0.9.7").await;
    let line = new_host.refused(&format!("{DEPLOY} --update")).await;
    assert!(line.contains("rolled_back (crashed)"), "{line}");
    assert!(line.contains(&format!("{OWN} runs")), "{line}");
    assert_eq!(new_host.current().await, OWN);
    eventually("the host is on duty, and the server knows why", async || {
        let is_connected = new_host.host.run(&format!("{DEPLOY} --status")).await.code == Some(0);
        let agent = new_host.fixture.online(&new_host.key_id).await;
        (is_connected && agent["update"]["code"] == "crashed").then_some(())
    })
    .await;

    let line = new_host.refused(&format!("{DEPLOY} --update --version 0.9.8")).await;
    assert!(line.contains("does not publish a release 0.9.8"), "{line}");
    new_host.host.run(&format!("printf {STRANGE_KEY} >/opt/muster/release_key")).await.expect(0);
    publisher.release("0.9.6").await;
    let line = new_host.refused(&format!("{DEPLOY} --update --version 0.9.6")).await;
    assert!(line.contains("refused (untrusted_key)"), "{line}");
    assert_eq!(new_host.current().await, OWN);
    new_host.host.run(&format!("{DEPLOY} --stop")).await.expect(0);
    let line = new_host.refused(&format!("{DEPLOY} --update")).await;
    assert!(line.contains("no agent runs"), "{line}");
}

#[tokio::test]
async fn update_stops_no_agent_while_the_server_is_unreachable() {
    let (mut new_host, publisher) = new_host(Manager::Bare).await;
    installed(&new_host, &publisher).await;
    publisher.release("0.9.7").await;
    let process = new_host.host.run("pgrep -x muster-agent").await.expect(0);
    new_host.fixture.server.stop();
    for words in ["--update", "--update --version 0.9.7"] {
        let line = new_host.refused(&format!("{DEPLOY} {words}")).await;
        assert!(line.contains("failed to connect"), "{line}");
    }
    assert_eq!(new_host.host.run("pgrep -x muster-agent").await.expect(0), process);
    new_host.fixture.server.resume();
    new_host.host.run(&format!("{DEPLOY} --update")).await.expect(0);
    assert_eq!(new_host.current().await, "0.9.7");
}

#[tokio::test]
async fn second_concurrent_update_is_refused_naming_the_first() {
    let (new_host, publisher) = new_host(Manager::Bare).await;
    installed(&new_host, &publisher).await;
    let silent = "[ \"$1\" = version ] && exit 0; exec sleep 600";
    publisher.replace("0.9.7", Program::Agent, silent);
    publisher.release("0.9.7").await;
    let first = format!("({DEPLOY} --update >/tmp/first 2>&1; echo \"exit $?\" >>/tmp/first) &");
    new_host.host.run(&first).await.expect(0);
    let trial = new_host.host.file("/opt/muster/trial.json");
    eventually("the first is at work", async || trial.exists().then_some(())).await;
    let line = new_host.refused(&format!("{DEPLOY} --update")).await;
    assert!(line.contains("another update request"), "{line}");
    let told = eventually("the first is told", async || {
        let said = fs::read_to_string(new_host.host.file("/tmp/first")).ok()?;
        said.contains("exit ").then_some(said)
    })
    .await;
    assert!(told.contains("rolled_back (not_registered)") && told.contains("exit 1"), "{told}");
    assert_eq!(new_host.current().await, OWN);
}

#[tokio::test]
async fn programs_are_verified_before_they_are_installed() {
    let (new_host, publisher) = new_host(Manager::Bare).await;
    let before = new_host.host.changes();
    let key = publisher.fingerprint();
    let with = |words: &str| new_host.line(&format!("--key {} {words}", new_host.key));
    for (words, expected) in [
        (format!("--release-key {STRANGE_KEY}"), "untrusted_key"),
        ("--release-key abc".into(), "64 hex digits"),
        (format!("--release-key g{}", &key[1..]), "64 hex digits"),
        (format!("--release-key {key} --version 9.9.9"), "version 9.9.9 is not available"),
        ("--version newest".into(), "a version such as 0.2.0"),
        ("--version ../1".into(), "a version such as 0.2.0"),
    ] {
        let line = new_host.refused(&with(&words)).await;
        assert!(line.contains(expected), "{words}: {line}");
        let left = new_files(&before, &new_host.host.changes());
        assert!(left.is_empty(), "{words}: {left:?}");
    }
    let upper = key.to_uppercase();
    let said = new_host.host.run(&with(&format!("--release-key {upper}"))).await.expect(0);
    assert!(said.contains(&format!("is signed by the key {key}")), "{said}");
    let pinned = async || new_host.host.run("cat /opt/muster/release_key").await.expect(0);
    assert_eq!(pinned().await.trim(), key);

    // Another key is accepted if it is given, and only for a release of that key.
    let line = new_host.refused(&format!("{DEPLOY} --release-key {STRANGE_KEY}")).await;
    assert!(line.contains("use --yes"), "{line}");
    let line = new_host.refused(&format!("{DEPLOY} --yes --release-key {STRANGE_KEY}")).await;
    assert!(line.contains("untrusted_key"), "{line}");
    assert_eq!(pinned().await.trim(), key);
    new_host.host.run(&format!("printf {STRANGE_KEY} >/opt/muster/release_key")).await.expect(0);
    let line = new_host.refused(DEPLOY).await;
    assert!(line.contains("untrusted_key"), "{line}");
    let said = new_host.host.run(&format!("{DEPLOY} --yes --release-key {key}")).await.expect(0);
    assert!(said.contains(&format!("changes from {STRANGE_KEY} to {key}")), "{said}");
    assert_eq!(pinned().await.trim(), key);
}

#[tokio::test]
async fn requested_version_is_installed_if_allowed() {
    let (new_host, publisher) = new_host(Manager::Bare).await;
    let key = format!("--key {} --release-key {}", new_host.key, publisher.fingerprint());
    new_host.host.run(&new_host.line(&key)).await.expect(0);
    publisher.release("0.9.7").await;
    // The program that downloads is already here: no program is downloaded and run before it is
    // verified.
    let curl = "printf '#!/bin/sh\ntouch /tmp/loaded\nexit 1\n' >/usr/local/bin/curl";
    new_host.host.run(&format!("{curl} && chmod 755 /usr/local/bin/curl")).await.expect(0);
    publisher.make("0.9.8", OWN).await;
    publisher.publish("0.9.8").await.expect(0);
    new_host.host.run(&format!("{DEPLOY} --version 0.9.7")).await.expect(0);
    assert_eq!(new_host.current().await, "0.9.7");
    new_host.host.run("test -s /opt/muster/versions/0.9.7/release.sig").await.expect(0);
    publisher.cli.run(&["release", "withdraw", OWN]).await.expect(0);
    let line = new_host.refused(&format!("{DEPLOY} --version {OWN}")).await;
    assert!(line.contains("is not available"), "{line}");
    new_host.host.run("echo 0.9.8 >/opt/muster/release_floor").await.expect(0);
    let line = new_host.refused(&format!("{DEPLOY} --version 0.9.7")).await;
    assert!(line.contains("below_floor"), "{line}");
    new_host.host.run(DEPLOY).await.expect(0);
    assert_eq!(new_host.fixture.online(&new_host.key_id).await["version"], "0.9.8");
    new_host.host.run("test ! -e /tmp/loaded").await.expect(0);
}

#[tokio::test]
async fn host_with_a_pinned_key_refuses_unsigned_releases() {
    let new_host = NewHost::on(Manager::Bare).await;
    let publisher = Publisher::new(&new_host.fixture).await;
    let words = format!("--key {} --release-key {}", new_host.key, publisher.fingerprint());
    let line = new_host.refused(&new_host.line(&words)).await;
    assert!(line.contains("accepts signed releases only"), "{line}");
    new_host.host.run("test ! -e /opt/muster").await.expect(0);
    // Without a pinned key, a download over http:// is not trusted, and nothing is pinned.
    publisher.release(OWN).await;
    new_host.install().await;
    new_host.host.run("test ! -e /opt/muster/release_key").await.expect(0);
    publisher.release("0.9.7").await;
    let line = new_host.refused(&format!("{DEPLOY} --update")).await;
    assert!(line.contains("refused (untrusted_key)") && line.contains("--release-key"), "{line}");
}
