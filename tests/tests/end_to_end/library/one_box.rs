//! One machine with everything: a server that runs an agent beside itself.

use std::fs;
use std::path::PathBuf;

use muster_tests::{Database, Fixture, JsonFields as _, ServerOptions, TestDir, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::Method;
use serde_json::{Value, json};

use super::{create, output};

/// Part of the command line of the agent, and of its supervisor.
const AGENT: &str = "muster-agent run";
const SUPERVISOR: &str = "muster-supervisor run";

fn options() -> ServerOptions {
    ServerOptions::default().with("MUSTER_LOCAL_AGENT", "true")
}

fn state_dir(fixture: &Fixture) -> PathBuf {
    fixture.server.data_dir().join("local_agent")
}

fn ids(fixture: &Fixture, word: &str) -> Vec<i32> {
    let found = fixture.test_dir.processes(&state_dir(fixture), word);
    found.into_iter().map(|process| process.id).collect()
}

/// Waits until the only agent of the fleet is online and has reported its policy.
async fn online(fixture: &Fixture) -> Value {
    eventually("the local agent is online", async || {
        // A connection from before a restart of the server fails.
        let sent = fixture.api.try_send(Method::GET, "/api/agents", &[], None).await;
        let agents = sent.ok()?.expect(200);
        let agents = agents["items"].as_array().expect("a list");
        assert!(agents.len() < 2, "more than one agent: {agents:?}");
        let agent = agents.first()?;
        (agent["status"] == "online" && agent["policy"].is_string()).then(|| agent.clone())
    })
    .await
}

async fn runs(fixture: &Fixture, agent: &Value) {
    let command = fixture.api.execute(agent.id(), "library:hello", json!({})).await;
    let ended = fixture.api.finished(&command).await;
    assert_eq!(ended["state"], "succeeded", "{ended}");
    assert_eq!(output(fixture, &command).await, "hello from 22\n");
}

/// Kills the only process with this word in its command line, and waits for another one.
async fn kill_9(fixture: &Fixture, word: &str) {
    let before = ids(fixture, word);
    assert_eq!(before.len(), 1, "one {word}");
    kill(Pid::from_raw(before[0]), Signal::SIGKILL).expect("killed");
    eventually("another one runs", async || {
        let now = ids(fixture, word);
        (now.len() == 1 && now != before).then_some(())
    })
    .await;
}

#[tokio::test]
async fn one_command_runs_a_server_with_an_agent_that_runs_scripts() {
    let mut fixture = Fixture::with(options()).await;
    let agent = online(&fixture).await;
    assert_eq!(agent["policy"], "library");
    // The umask that scripts get: that of a service, not that of the server.
    create(&fixture, "hello", "echo \"hello from $(umask | tail -c 3)\"").await;
    runs(&fixture, &agent).await;

    // The key is in its file alone.
    let key = fs::read_to_string(state_dir(&fixture).join("agent_key")).expect("the key");
    let key = key.trim().to_owned();
    assert!(key.starts_with("mst_agent_"), "an agent key");
    for process in fixture.test_dir.processes(fixture.test_dir.path(), "") {
        assert!(!process.command_line.contains(&key), "in the arguments of {process:?}");
        let variables = fs::read(format!("/proc/{}/environ", process.id)).unwrap_or_default();
        let variables = String::from_utf8_lossy(&variables).into_owned();
        assert!(!variables.contains(&key), "in the environment of {process:?}");
    }
    assert!(!fixture.server.log().contains(&key), "in the log");
    // The agent gets none of the server's settings, some of which are secrets.
    for process in fixture.test_dir.processes(&state_dir(&fixture), "muster-") {
        let variables = fs::read(format!("/proc/{}/environ", process.id)).unwrap_or_default();
        let variables = String::from_utf8_lossy(&variables).into_owned();
        let is_server = process.command_line.contains("muster-server");
        assert!(is_server || !variables.contains("MUSTER_LOCAL_AGENT"), "{process:?}");
    }

    kill_9(&fixture, AGENT).await;
    assert_eq!(online(&fixture).await.id(), agent.id());
    kill_9(&fixture, SUPERVISOR).await;
    runs(&fixture, &agent).await;

    fixture.server.stop();
    let left = fixture.test_dir.processes(fixture.server.data_dir(), "");
    assert!(left.is_empty(), "left: {left:#?}");
    fixture.server.resume();
    let again = online(&fixture).await;
    assert_eq!(again.id(), agent.id(), "the same agent");
    runs(&fixture, &again).await;
    let keys = fixture.api.get("/api/agents/keys").await.expect(200);
    assert_eq!(keys["items"].as_array().map(Vec::len), Some(1), "{keys}");
}

#[tokio::test]
async fn the_local_agent_ends_with_a_server_that_is_killed() {
    let mut fixture = Fixture::with(options()).await;
    let agent = online(&fixture).await;
    fixture.server.kill_9();
    eventually("supervisor and agent end", async || {
        fixture.test_dir.processes(fixture.server.data_dir(), "").is_empty().then_some(())
    })
    .await;
    fixture.server.resume();
    assert_eq!(online(&fixture).await.id(), agent.id(), "the same agent");
}

#[tokio::test]
async fn a_server_with_its_own_certificate_has_a_local_agent_over_tls() {
    let test_dir = TestDir::new();
    let options = ServerOptions::issuing(&test_dir).with("MUSTER_LOCAL_AGENT", "true");
    let fixture = Fixture::on(test_dir, Database::Sqlite, options).await;
    let agent = online(&fixture).await;
    create(&fixture, "hello", "echo \"hello from $(umask | tail -c 3)\"").await;
    runs(&fixture, &agent).await;
}
