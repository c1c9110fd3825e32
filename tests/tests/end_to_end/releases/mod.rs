//! Hosts that change their version: by a command, with the real supervisor, to newer and older
//! versions.

mod bad_releases;
mod cohorts;
mod cuts;
mod downloads;
mod groups;
mod kills;
mod load;
mod previous;
mod publishing;
mod start;
mod unreachable;
mod version;
mod waves;

use std::os::unix::fs::MetadataExt as _;

use muster_tests::{
    Agent, AgentOptions, Fixture, JsonFields as _, Publisher, Script, current_version,
    eventually_shown,
};
use serde_json::{Value, json};

/// A host with an installed version, and its agent's id.
async fn host(
    fixture: &Fixture,
    publisher: &Publisher,
    name: &str,
    version: &str,
) -> (Agent, String, std::path::PathBuf) {
    let (options, folder) = options(publisher, name, version);
    let (agent, id) = fixture.agent(options).await;
    (agent, id, folder)
}

/// The options of such a host, and its program folder.
fn options(publisher: &Publisher, name: &str, version: &str) -> (AgentOptions, std::path::PathBuf) {
    let folder = publisher.install(name, version);
    let script = Script::counting("long", 4_000, 50, "0.05");
    let options = AgentOptions { scripts: vec![script], ..AgentOptions::named(name) }
        .installed(folder.clone())
        .with("MUSTER_BACKOFF_MAX_MS", 200)
        .with("MUSTER_TRIAL_MS", 10_000);
    (options, folder)
}

async fn ask(fixture: &Fixture, agent: &str, command: &str, data: Value) -> String {
    let body = json!({"command": command, "data": data});
    let made = fixture.api.post(&format!("/api/agents/{agent}/command"), body).await.expect(202);
    made.id().to_owned()
}

/// Waits until the agent is online with this version.
async fn runs(fixture: &Fixture, agent: &str, version: &str) -> Value {
    let path = format!("/api/agents/{agent}");
    eventually_shown(&format!("agent {agent} runs {version}"), async || {
        let shown = fixture.api.get(&path).await.expect(200);
        let is_it = shown["status"] == "online" && shown["version"] == version;
        if is_it { Ok(shown) } else { Err(shown) }
    })
    .await
}

#[tokio::test]
async fn host_is_upgraded_and_downgraded_while_its_execution_runs() {
    let fixture = Fixture::on_sqlite().await;
    let publisher = Publisher::new(&fixture).await;
    publisher.release("0.1.0").await;
    publisher.release("0.2.0").await;
    let (_agent, id, folder) = host(&fixture, &publisher, "host", "0.1.0").await;
    let run = fixture.api.execute(&id, "long", json!({})).await;
    fixture.api.output_reaches(&run, 1).await;

    let update = ask(&fixture, &id, "update", json!({})).await;
    let ended = fixture.api.finished(&update).await;
    assert_eq!(ended["state"], "succeeded", "{ended}");
    assert_eq!(ended["data"]["version"], "0.2.0", "{ended}");
    assert_eq!(ended["result"]["update_result"], "installed", "{ended}");
    let shown = runs(&fixture, &id, "0.2.0").await;
    assert_eq!(shown["update"]["outcome"], "installed", "{shown}");
    assert_eq!(current_version(&folder), "0.2.0");

    let back = ask(&fixture, &id, "update", json!({"version": "0.1.0"})).await;
    let ended = fixture.api.finished(&back).await;
    assert_eq!(ended["result"]["update_result"], "installed", "{ended}");
    assert_eq!(ended["result"]["from_version"], "0.2.0", "{ended}");
    runs(&fixture, &id, "0.1.0").await;
    assert_eq!(current_version(&folder), "0.1.0");

    let command = fixture.api.finished(&run).await;
    assert_eq!(command["state"], "succeeded", "{command}");
    assert!(fixture.api.output(&run).await == Script::counted(4_000), "the output differs");
}

#[tokio::test]
async fn current_version_is_unchanged_and_a_redeploy_repairs_it() {
    let fixture = Fixture::on_sqlite().await;
    let publisher = Publisher::new(&fixture).await;
    publisher.release("0.1.0").await;
    let (agent, id, folder) = host(&fixture, &publisher, "host", "0.1.0").await;
    let program = folder.join("versions/0.1.0/bin/muster-agent");
    let inode = || std::fs::metadata(&program).expect("the program").ino();
    let installed = inode();
    let same = ask(&fixture, &id, "update", json!({"version": "0.1.0"})).await;
    let ended = fixture.api.finished(&same).await;
    assert_eq!(
        (&ended["state"], &ended["result"]["update_result"]),
        (&json!("succeeded"), &json!("unchanged"))
    );
    assert_eq!(inode(), installed);
    // The agent exits with 44. Its installation is intact, and no newer release exists.
    let again = ask(&fixture, &id, "redeploy", json!({})).await;
    let ended = fixture.api.finished(&again).await;
    assert_eq!(ended["state"], "succeeded", "{ended}");
    assert_eq!(ended["result"]["to_version"], "0.1.0", "{ended}");
    assert_eq!(ended["result"]["update_result"], "installed", "{ended}");
    runs(&fixture, &id, "0.1.0").await;
    assert_ne!(inode(), installed, "the programs were not downloaded again");
    let log = agent.log();
    assert!(log.contains("(44)") && log.contains("downloading the programs"), "{log}");
}
