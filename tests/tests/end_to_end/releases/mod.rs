//! Hosts that change their version: by one command, by the real supervisor, up and down again.

mod bad_releases;
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

use muster_tests::{
    Agent, AgentOptions, Publisher, Script, World, current_version, eventually_shown,
};
use serde_json::{Value, json};

/// A host that was installed with a version, and its agent's id.
async fn host(
    world: &World,
    publisher: &Publisher,
    name: &str,
    version: &str,
) -> (Agent, String, std::path::PathBuf) {
    let (options, folder) = options(publisher, name, version);
    let (agent, id) = world.agent(options).await;
    (agent, id, folder)
}

/// How such a host is set up, and its program folder.
fn options(publisher: &Publisher, name: &str, version: &str) -> (AgentOptions, std::path::PathBuf) {
    let folder = publisher.install(name, version);
    let script = Script::counting("long", 4_000, 50, "0.05");
    let options = AgentOptions { scripts: vec![script], ..AgentOptions::named(name) }
        .installed(folder.clone())
        .with("MUSTER_BACKOFF_MAX_MS", 200)
        .with("MUSTER_TRIAL_MS", 10_000);
    (options, folder)
}

async fn ask(world: &World, agent: &str, command: &str, data: Value) -> String {
    let body = json!({"command": command, "data": data});
    let made = world.api.post(&format!("/api/agents/{agent}/command"), body).await.expect(202);
    made["id"].as_str().expect("an id").to_owned()
}

/// Waits until the agent is online with this version.
async fn runs(world: &World, agent: &str, version: &str) -> Value {
    let path = format!("/api/agents/{agent}");
    eventually_shown(&format!("agent {agent} runs {version}"), async || {
        let shown = world.api.get(&path).await.expect(200);
        let is_it = shown["status"] == "online" && shown["version"] == version;
        if is_it { Ok(shown) } else { Err(shown) }
    })
    .await
}

#[tokio::test]
async fn a_host_goes_up_and_down_again_while_its_job_runs() {
    let world = World::on_sqlite().await;
    let publisher = Publisher::new(&world).await;
    publisher.release("0.1.0").await;
    publisher.release("0.2.0").await;
    let (_agent, id, folder) = host(&world, &publisher, "host", "0.1.0").await;
    let run = world.api.execute(&id, "long", json!({})).await;
    world.api.output_reaches(&run, 1).await;

    let update = ask(&world, &id, "update", json!({})).await;
    let ended = world.api.finished(&update).await;
    assert_eq!(ended["state"], "succeeded", "{ended}");
    assert_eq!(ended["data"]["version"], "0.2.0", "{ended}");
    assert_eq!(ended["result"]["update_result"], "installed", "{ended}");
    let shown = runs(&world, &id, "0.2.0").await;
    assert_eq!(shown["update"]["outcome"], "installed", "{shown}");
    assert_eq!(current_version(&folder), "0.2.0");

    let back = ask(&world, &id, "update", json!({"version": "0.1.0"})).await;
    let ended = world.api.finished(&back).await;
    assert_eq!(ended["result"]["update_result"], "installed", "{ended}");
    assert_eq!(ended["result"]["from_version"], "0.2.0", "{ended}");
    runs(&world, &id, "0.1.0").await;
    assert_eq!(current_version(&folder), "0.1.0");

    let command = world.api.finished(&run).await;
    assert_eq!(command["state"], "succeeded", "{command}");
    assert!(world.api.output(&run).await == Script::counted(4_000), "the output differs");
}

#[tokio::test]
async fn a_version_that_is_in_place_is_unchanged_and_one_that_is_redeployed_is_whole_again() {
    let world = World::on_sqlite().await;
    let publisher = Publisher::new(&world).await;
    publisher.release("0.1.0").await;
    let (_agent, id, _folder) = host(&world, &publisher, "host", "0.1.0").await;
    let same = ask(&world, &id, "update", json!({"version": "0.1.0"})).await;
    let ended = world.api.finished(&same).await;
    assert_eq!(
        (&ended["state"], &ended["result"]["update_result"]),
        (&json!("succeeded"), &json!("unchanged"))
    );
    let again = ask(&world, &id, "redeploy", json!({})).await;
    let ended = world.api.finished(&again).await;
    assert_eq!(ended["state"], "succeeded", "{ended}");
    assert_eq!(ended["result"]["to_version"], "0.1.0", "{ended}");
    runs(&world, &id, "0.1.0").await;
}
