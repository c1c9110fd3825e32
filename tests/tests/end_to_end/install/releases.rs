//! Signed releases on hosts: what is installed is verified, and the host's owner asks for versions.

use std::fs;

use muster_protocol::release::Program;
use muster_tests::{Manager, Publisher, eventually};
use serde_json::{Value, json};

use super::{DEPLOY, Newcomer, complaint, new_files};

const OWN: &str = env!("CARGO_PKG_VERSION");
const STRANGE_KEY: &str = "00000000000000000000000000000000000000000000000000000000000000ff";

/// A host whose server has published the version under test.
async fn newcomer(manager: Manager) -> (Newcomer, Publisher) {
    let newcomer = Newcomer::on(manager).await;
    let publisher = Publisher::new(&newcomer.world).await;
    publisher.release(OWN).await;
    (newcomer, publisher)
}

/// Installed from that release, trusting its key, with a trial that is over soon; the agent.
async fn installed(newcomer: &Newcomer, publisher: &Publisher) -> Value {
    let key = format!("--key {} --release-key {}", newcomer.key, publisher.fingerprint());
    newcomer.host.run(&newcomer.line(&key)).await.expect(0);
    let knobs = "MUSTER_TRIAL_MS='10000'\nMUSTER_BACKOFF_MAX_MS='200'\n";
    let set = format!("printf %s \"{knobs}\" >>/etc/muster/agent.env && {DEPLOY} --start");
    newcomer.host.run(&set).await.expect(0);
    newcomer.world.online(&newcomer.key_id).await
}

impl Newcomer {
    /// Runs this and gives back its exit code and its last complaint.
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
async fn the_owner_has_the_agent_updated_and_its_job_goes_on() {
    let (newcomer, publisher) = newcomer(Manager::Systemd).await;
    let agent = installed(&newcomer, &publisher).await;
    let id = agent["id"].as_str().expect("an id");
    let said = newcomer.host.run(&format!("{DEPLOY} --update")).await.expect(0);
    assert!(said.contains(&format!("{OWN} is already running")), "{said}");
    let body = "echo begun; while [ ! -e /tmp/go ]; do sleep 0.1; done; echo done";
    newcomer.allow("long", body).await;
    let run = newcomer.world.api.execute(id, "long", json!({})).await;
    newcomer.world.api.output_reaches(&run, 6).await;

    publisher.release("0.9.7").await;
    let said = newcomer.host.run(&format!("{DEPLOY} --update")).await.expect(0);
    assert!(said.contains(&format!("updated from {OWN} to 0.9.7")), "{said}");
    eventually("the server knows what came of it", async || {
        let agent = newcomer.world.online(&newcomer.key_id).await;
        let is_it = agent["version"] == "0.9.7" && agent["update"]["outcome"] == "installed";
        is_it.then_some(())
    })
    .await;
    let back = newcomer.host.run(&format!("{DEPLOY} --update --version {OWN}")).await.expect(0);
    assert!(back.contains(&format!("updated from 0.9.7 to {OWN}")), "{back}");
    assert_eq!(newcomer.current().await, OWN);
    newcomer.host.run("touch /tmp/go").await.expect(0);
    assert_eq!(newcomer.world.api.finished(&run).await["state"], "succeeded");
    assert_eq!(newcomer.world.api.output(&run).await, b"begun\ndone\n");

    // What the agent's group wants comes before what is newest.
    let group = json!({"name": "all", "target": {"expression": "all"}, "desired_version": OWN});
    newcomer.world.api.post("/api/groups", group).await.expect(201);
    let said = newcomer.host.run(&format!("{DEPLOY} --update")).await.expect(0);
    assert!(said.contains(&format!("{OWN} is already running")), "{said}");
    let before = newcomer.host.changes();
    newcomer.host.run(&format!("{DEPLOY} --uninstall")).await.expect(0);
    let left: Vec<_> = before.iter().filter(|path| path.starts_with("/opt/muster")).collect();
    assert!(!left.is_empty());
    newcomer.host.run("test ! -e /opt/muster").await.expect(0);
}

#[tokio::test]
async fn an_update_that_fails_leaves_the_old_version_running_and_says_why() {
    let (newcomer, publisher) = newcomer(Manager::Systemd).await;
    installed(&newcomer, &publisher).await;
    publisher.replace("0.9.7", Program::Agent, "[ \"$1\" = version ]");
    publisher.release("0.9.7").await;
    let line = newcomer.refused(&format!("{DEPLOY} --update")).await;
    assert!(line.contains("rolled_back (crashed)"), "{line}");
    assert!(line.contains(&format!("{OWN} runs")), "{line}");
    assert_eq!(newcomer.current().await, OWN);
    eventually("the host is on duty, and the server knows why", async || {
        let is_connected = newcomer.host.run(&format!("{DEPLOY} --status")).await.code == Some(0);
        let agent = newcomer.world.online(&newcomer.key_id).await;
        (is_connected && agent["update"]["code"] == "crashed").then_some(())
    })
    .await;

    let line = newcomer.refused(&format!("{DEPLOY} --update --version 0.9.8")).await;
    assert!(line.contains("does not publish a release 0.9.8"), "{line}");
    newcomer.host.run(&format!("printf {STRANGE_KEY} >/opt/muster/release_key")).await.expect(0);
    publisher.release("0.9.6").await;
    let line = newcomer.refused(&format!("{DEPLOY} --update --version 0.9.6")).await;
    assert!(line.contains("refused (untrusted_key)"), "{line}");
    assert_eq!(newcomer.current().await, OWN);
    newcomer.host.run(&format!("{DEPLOY} --stop")).await.expect(0);
    let line = newcomer.refused(&format!("{DEPLOY} --update")).await;
    assert!(line.contains("no agent runs"), "{line}");
}

#[tokio::test]
async fn an_update_stops_no_agent_while_the_server_is_away() {
    let (mut newcomer, publisher) = newcomer(Manager::Bare).await;
    installed(&newcomer, &publisher).await;
    publisher.release("0.9.7").await;
    let process = newcomer.host.run("pgrep -x muster-agent").await.expect(0);
    newcomer.world.server.stop();
    for words in ["--update", "--update --version 0.9.7"] {
        let line = newcomer.refused(&format!("{DEPLOY} {words}")).await;
        assert!(line.contains("failed to connect"), "{line}");
    }
    assert_eq!(newcomer.host.run("pgrep -x muster-agent").await.expect(0), process);
    newcomer.world.server.resume();
    newcomer.host.run(&format!("{DEPLOY} --update")).await.expect(0);
    assert_eq!(newcomer.current().await, "0.9.7");
}

#[tokio::test]
async fn the_second_who_asks_at_once_is_told_of_the_first() {
    let (newcomer, publisher) = newcomer(Manager::Bare).await;
    installed(&newcomer, &publisher).await;
    let silent = "[ \"$1\" = version ] && exit 0; exec sleep 600";
    publisher.replace("0.9.7", Program::Agent, silent);
    publisher.release("0.9.7").await;
    let first = format!("({DEPLOY} --update >/tmp/first 2>&1; echo \"exit $?\" >>/tmp/first) &");
    newcomer.host.run(&first).await.expect(0);
    let trial = newcomer.host.file("/opt/muster/trial.json");
    eventually("the first is at work", async || trial.exists().then_some(())).await;
    let line = newcomer.refused(&format!("{DEPLOY} --update")).await;
    assert!(line.contains("another update request"), "{line}");
    let told = eventually("the first is told", async || {
        let said = fs::read_to_string(newcomer.host.file("/tmp/first")).ok()?;
        said.contains("exit ").then_some(said)
    })
    .await;
    assert!(told.contains("rolled_back (not_registered)") && told.contains("exit 1"), "{told}");
    assert_eq!(newcomer.current().await, OWN);
}

#[tokio::test]
async fn what_is_installed_is_verified_before_it_is_placed() {
    let (newcomer, publisher) = newcomer(Manager::Bare).await;
    let before = newcomer.host.changes();
    let key = publisher.fingerprint();
    let with = |words: &str| newcomer.line(&format!("--key {} {words}", newcomer.key));
    for (words, expected) in [
        (format!("--release-key {STRANGE_KEY}"), "untrusted_key"),
        ("--release-key abc".into(), "64 hex digits"),
        (format!("--release-key g{}", &key[1..]), "64 hex digits"),
        (format!("--release-key {key} --version 9.9.9"), "version 9.9.9 is not available"),
        ("--version newest".into(), "a version such as 0.2.0"),
        ("--version ../1".into(), "a version such as 0.2.0"),
    ] {
        let line = newcomer.refused(&with(&words)).await;
        assert!(line.contains(expected), "{words}: {line}");
        let left = new_files(&before, &newcomer.host.changes());
        assert!(left.is_empty(), "{words}: {left:?}");
    }
    let upper = key.to_uppercase();
    let said = newcomer.host.run(&with(&format!("--release-key {upper}"))).await.expect(0);
    assert!(said.contains(&format!("is signed by the key {key}")), "{said}");
    let pinned = async || newcomer.host.run("cat /opt/muster/release_key").await.expect(0);
    assert_eq!(pinned().await.trim(), key);

    // Another key is taken when that is said, and only if the release is of that key.
    let line = newcomer.refused(&format!("{DEPLOY} --release-key {STRANGE_KEY}")).await;
    assert!(line.contains("use --yes"), "{line}");
    let line = newcomer.refused(&format!("{DEPLOY} --yes --release-key {STRANGE_KEY}")).await;
    assert!(line.contains("untrusted_key"), "{line}");
    assert_eq!(pinned().await.trim(), key);
    newcomer.host.run(&format!("printf {STRANGE_KEY} >/opt/muster/release_key")).await.expect(0);
    let line = newcomer.refused(DEPLOY).await;
    assert!(line.contains("untrusted_key"), "{line}");
    let said = newcomer.host.run(&format!("{DEPLOY} --yes --release-key {key}")).await.expect(0);
    assert!(said.contains(&format!("changes from {STRANGE_KEY} to {key}")), "{said}");
    assert_eq!(pinned().await.trim(), key);
}

#[tokio::test]
async fn exactly_the_version_that_is_named_is_installed_if_it_may_be() {
    let (newcomer, publisher) = newcomer(Manager::Bare).await;
    let key = format!("--key {} --release-key {}", newcomer.key, publisher.fingerprint());
    newcomer.host.run(&newcomer.line(&key)).await.expect(0);
    publisher.release("0.9.7").await;
    // What fetches is here already: no program is loaded to be run before it is verified.
    let curl = "printf '#!/bin/sh\ntouch /tmp/loaded\nexit 1\n' >/usr/local/bin/curl";
    newcomer.host.run(&format!("{curl} && chmod 755 /usr/local/bin/curl")).await.expect(0);
    publisher.make("0.9.8", OWN).await;
    publisher.publish("0.9.8").await.expect(0);
    newcomer.host.run(&format!("{DEPLOY} --version 0.9.7")).await.expect(0);
    assert_eq!(newcomer.current().await, "0.9.7");
    newcomer.host.run("test -s /opt/muster/versions/0.9.7/release.sig").await.expect(0);
    publisher.cli.run(&["release", "withdraw", OWN]).await.expect(0);
    let line = newcomer.refused(&format!("{DEPLOY} --version {OWN}")).await;
    assert!(line.contains("is not available"), "{line}");
    newcomer.host.run("echo 0.9.8 >/opt/muster/release_floor").await.expect(0);
    let line = newcomer.refused(&format!("{DEPLOY} --version 0.9.7")).await;
    assert!(line.contains("below_floor"), "{line}");
    newcomer.host.run(DEPLOY).await.expect(0);
    assert_eq!(newcomer.world.online(&newcomer.key_id).await["version"], "0.9.8");
    newcomer.host.run("test ! -e /tmp/loaded").await.expect(0);
}

#[tokio::test]
async fn a_host_that_trusts_a_key_takes_nothing_that_is_not_signed() {
    let newcomer = Newcomer::on(Manager::Bare).await;
    let publisher = Publisher::new(&newcomer.world).await;
    let words = format!("--key {} --release-key {}", newcomer.key, publisher.fingerprint());
    let line = newcomer.refused(&newcomer.line(&words)).await;
    assert!(line.contains("accepts signed releases only"), "{line}");
    newcomer.host.run("test ! -e /opt/muster").await.expect(0);
    // Without a key there is nobody to trust over http://: nothing is pinned.
    publisher.release(OWN).await;
    newcomer.install().await;
    newcomer.host.run("test ! -e /opt/muster/release_key").await.expect(0);
    publisher.release("0.9.7").await;
    let line = newcomer.refused(&format!("{DEPLOY} --update")).await;
    assert!(line.contains("refused (untrusted_key)") && line.contains("--release-key"), "{line}");
}
