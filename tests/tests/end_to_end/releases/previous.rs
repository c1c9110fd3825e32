//! Hosts with the previous build (`tests/previous/commit`): they work with this server, and this
//! server and this `deploy.sh` upgrade them.
//!
//! Both builds may have the same version or any other, so the releases here are newer than all of
//! them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use muster_tests::{
    ALL, Agent, AgentOptions, Fixture, Host, JsonFields as _, Manager, Publisher, Script, binary,
    on_both_databases, previous,
};
use serde_json::{Value, json};

use super::{ask, runs};

on_both_databases!(an_older_agent_works_and_keeps_its_execution_while_the_server_is_killed);

const LINES: u32 = 2_000;
const NEWER: &str = "90.1.0";
const NEWEST: &str = "90.2.0";

/// An agent and a supervisor of the previous build, as `deploy.sh` of that build starts them.
async fn older(fixture: &Fixture) -> (Agent, String) {
    let folder = previous("muster-agent");
    let folder = folder.parent().expect("a folder");
    let options = AgentOptions {
        scripts: vec![Script::counting("long", LINES, 50, "0.05")],
        ..AgentOptions::named("older")
    };
    let options = options.supervised().from_folder(folder).with("MUSTER_BACKOFF_MAX_MS", 200);
    fixture.agent(options).await
}

async fn an_older_agent_works_and_keeps_its_execution_while_the_server_is_killed(
    mut fixture: Fixture,
) {
    let (agent, id) = older(&fixture).await;
    fixture.ask(&id, "ping", json!({})).await;
    let run = fixture.api.execute(&id, "long", json!({})).await;
    fixture.api.output_reaches(&run, 1).await;
    fixture.server.kill_9();
    fixture.server.resume();
    agent.kill_9_beneath_the_supervisor().await;
    assert_eq!(fixture.api.finished(&run).await["state"], "succeeded");
    assert!(fixture.api.output(&run).await == Script::counted(LINES), "the output differs");
    let restart = ask(&fixture, &id, "restart", json!({})).await;
    assert_eq!(fixture.api.finished(&restart).await["state"], "succeeded");
}

/// Copies programs into a folder, which others may enter.
fn place(folder: &Path, programs: &[PathBuf]) {
    for program in programs {
        let to = folder.join(program.file_name().expect("a name"));
        fs::copy(program, &to).expect("copy a program");
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).expect("open it");
    }
}

#[tokio::test]
async fn an_agent_under_an_older_supervisor_refuses_updates_and_stays_connected() {
    let fixture = Fixture::on_sqlite().await;
    let publisher = Publisher::new(&fixture).await;
    publisher.release(env!("CARGO_PKG_VERSION")).await;
    publisher.release(NEWER).await;
    let folder = fixture.test_dir.folder("mixed");
    place(&folder, &[previous("muster-supervisor"), binary("muster-agent")]);
    let options = AgentOptions::named("mixed").supervised().from_folder(&folder);
    let (_agent, id) = fixture.agent(options).await;
    for (command, data) in [("update", json!({"version": NEWER})), ("redeploy", json!({}))] {
        let asked = ask(&fixture, &id, command, data).await;
        let ended = fixture.api.finished(&asked).await;
        assert_eq!(ended["error_code"], "not_installed", "{ended}");
        fixture.ask(&id, "ping", json!({})).await;
    }
}

/// A host that the previous build's own `deploy.sh` installed, and its agent.
async fn older_host(fixture: &Fixture) -> (Host, Value) {
    let host = Host::boot(&fixture.test_dir, Manager::Systemd).await;
    let (key_id, key) = fixture.api.agent_key(json!({"permissions": ALL})).await;
    let older = fixture.test_dir.folder("older");
    place(&older, &["muster-agent", "muster-supervisor", "deploy.sh"].map(previous));
    let (older, url) = (older.display(), fixture.server.url());
    let words = format!("{older}/deploy.sh --server {url} --key {key} --from {older}");
    host.run(&words).await.expect(0);
    let agent = fixture.online(&key_id).await;
    (host, agent)
}

/// Pins the publisher's key: over plain HTTP no key is trusted at first use.
fn pin(host: &Host, publisher: &Publisher) {
    let pinned = host.file("/opt/muster/release_key");
    fs::write(pinned, format!("{}\n", publisher.fingerprint())).expect("pin the key");
}

#[tokio::test]
async fn an_older_installation_is_upgraded_by_deploy_and_takes_releases_from_then_on() {
    let fixture = Fixture::on_sqlite().await;
    let publisher = Publisher::new(&fixture).await;
    let (host, agent) = older_host(&fixture).await;
    let id = agent.id();
    publisher.release(NEWER).await;
    let url = fixture.server.url();
    host.run(&format!("curl -fsSL {url}/install/deploy.sh | sh")).await.expect(0);
    runs(&fixture, id, NEWER).await;
    pin(&host, &publisher);
    publisher.release(NEWEST).await;
    let update = ask(&fixture, id, "update", json!({})).await;
    let ended = fixture.api.finished(&update).await;
    assert_eq!(ended["result"]["update_result"], "installed", "{ended}");
    runs(&fixture, id, NEWEST).await;
}

#[tokio::test]
async fn an_older_installation_follows_its_group_to_this_build_while_an_execution_runs() {
    let fixture = Fixture::on_sqlite().await;
    let publisher = Publisher::new(&fixture).await;
    let (host, agent) = older_host(&fixture).await;
    let id = agent.id();
    pin(&host, &publisher);
    let script = "echo started; while [ ! -e /tmp/go ]; do sleep 0.1; done; echo done";
    let list = json!({"scripts": [{"name": "long", "path": "long.sh", "interpreter": "/bin/sh"}]});
    let state = host.file("/var/lib/muster");
    fs::write(state.join("scripts/long.sh"), script).expect("write the script");
    fs::write(state.join("script_manifest.json"), list.to_string()).expect("write the list");
    let run = fixture.api.execute(id, "long", json!({})).await;
    fixture.api.output_reaches(&run, 8).await;

    publisher.release(NEWER).await;
    let body = json!({"name": "all", "target": {"expression": "all"}, "desired_version": NEWER});
    fixture.api.post("/api/groups", body).await.expect(201);
    runs(&fixture, id, NEWER).await;
    host.run("touch /tmp/go").await.expect(0);
    assert_eq!(fixture.api.finished(&run).await["state"], "succeeded");
    assert_eq!(fixture.api.output(&run).await, b"started\ndone\n");
}
