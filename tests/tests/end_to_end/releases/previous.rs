//! Hosts with the version before this one, from a real build of it: they work with this server, say
//! what they can't, and have a way up.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use muster_tests::{
    ALL, Agent, AgentOptions, Fixture, Host, JsonFields as _, Manager, Publisher, Script, binary,
    on_both_databases, previous,
};
use serde_json::{Value, json};

use super::groups::group;
use super::{ask, runs};

on_both_databases!(
    older_agent_keeps_its_execution_while_the_server_is_killed,
    older_agent_in_a_group_is_not_sent_unsupported_commands,
);

const LINES: u32 = 2_000;

/// An agent and a supervisor of the version before this one, as `deploy.sh` of that version starts them.
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

async fn refuses(fixture: &Fixture, id: &str, command: &str) {
    let body = json!({"command": command, "data": {}});
    let path = format!("/api/agents/{id}/command");
    fixture.api.post(&path, body).await.expect_problem(409, "unsupported_command");
}

async fn older_agent_keeps_its_execution_while_the_server_is_killed(mut fixture: Fixture) {
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
    refuses(&fixture, &id, "update").await;
    refuses(&fixture, &id, "redeploy").await;
}

async fn older_agent_in_a_group_is_not_sent_unsupported_commands(fixture: Fixture) {
    let publisher = Publisher::new(&fixture).await;
    publisher.release("0.2.0").await;
    let (_agent, id) = older(&fixture).await;
    let run = fixture.api.execute(&id, "long", json!({})).await;
    fixture.api.output_reaches(&run, 1).await;
    let body = json!({"name": "all", "target": {"expression": "all"}, "desired_version": "0.2.0"});
    let made = fixture.api.post("/api/groups", body).await.expect(201);
    let name = made.id();
    let halted = |shown: &Value| shown["state"] == "halted";
    let shown = group(&fixture, name, "the group halts", halted).await;
    assert_eq!(shown["problems"][0]["code"], "unsupported_command", "{shown}");
    assert_eq!(
        (&shown["up_to_date_count"], &shown["failed_count"]),
        (&json!(0), &json!(1)),
        "{shown}"
    );
    runs(&fixture, &id, env!("CARGO_PKG_VERSION")).await;
    fixture.ask(&id, "ping", json!({})).await;
    assert_eq!(fixture.api.finished(&run).await["state"], "succeeded");
    assert!(fixture.api.output(&run).await == Script::counted(LINES), "the output differs");
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
async fn agent_under_an_older_supervisor_refuses_the_update_and_keeps_working() {
    let fixture = Fixture::on_sqlite().await;
    let publisher = Publisher::new(&fixture).await;
    publisher.release("0.1.0").await;
    publisher.release("0.2.0").await;
    let folder = fixture.test_dir.folder("mixed");
    place(&folder, &[previous("muster-supervisor"), binary("muster-agent")]);
    let options = AgentOptions::named("mixed").supervised().from_folder(&folder);
    let (_agent, id) = fixture.agent(options).await;
    for (command, data) in [("update", json!({"version": "0.2.0"})), ("redeploy", json!({}))] {
        let asked = ask(&fixture, &id, command, data).await;
        let ended = fixture.api.finished(&asked).await;
        assert_eq!(ended["error_code"], "not_installed", "{ended}");
        fixture.ask(&id, "ping", json!({})).await;
    }
}

#[tokio::test]
async fn older_installation_is_upgraded_by_deploy_and_accepts_releases_afterwards() {
    let fixture = Fixture::on_sqlite().await;
    let publisher = Publisher::new(&fixture).await;
    let host = Host::boot(&fixture.test_dir, Manager::Systemd).await;
    let (key_id, key) = fixture.api.agent_key(json!({"permissions": ALL})).await;
    let older = fixture.test_dir.folder("older");
    place(&older, &["muster-agent", "muster-supervisor", "deploy.sh"].map(previous));
    let (older, url) = (older.display(), fixture.server.url());
    let words = format!("{older}/deploy.sh --server {url} --key {key} --from {older}");
    host.run(&words).await.expect(0);
    let agent = fixture.online(&key_id).await;
    let id = agent.id();
    refuses(&fixture, id, "update").await;

    publisher.release("0.2.0").await;
    host.run(&format!("curl -fsSL {url}/install/deploy.sh | sh")).await.expect(0);
    runs(&fixture, id, "0.2.0").await;
    // Over plain HTTP no key is trusted at first use.
    let pinned = host.file("/opt/muster/release_key");
    fs::write(pinned, format!("{}\n", publisher.fingerprint())).expect("pin the key");
    publisher.release("0.3.0").await;
    let update = ask(&fixture, id, "update", json!({})).await;
    let ended = fixture.api.finished(&update).await;
    assert_eq!(ended["result"]["update_result"], "installed", "{ended}");
    runs(&fixture, id, "0.3.0").await;
}
