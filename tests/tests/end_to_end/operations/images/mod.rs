//! Container images: their files, and containers that run without an engine.

mod agent;
mod compose;
mod compose_up;
mod files;
mod kubernetes;
mod server;
mod volumes;
mod workflows;

use std::path::Path;
use std::process::Command;

use muster_tests::{Container, Fixture, Image, JsonFields as _, Server, eventually};
use serde_json::{Value, json};

/// A file of the repository in YAML, as JSON.
fn yaml(path: &str) -> Value {
    yaml_documents(path).remove(0)
}

/// The documents of a file of the repository in YAML.
fn yaml_documents(path: &str) -> Vec<Value> {
    let path = muster_tests::repository().join(path);
    let read = "import json, sys, yaml; json.dump(list(yaml.safe_load_all(open(sys.argv[1]))), sys.stdout)";
    let output = Command::new("/usr/bin/python3").args(["-c", read]).arg(&path).output();
    let output = output.expect("run Python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// A container of an agent with a key of its own, connected; and the agent's id.
async fn agent(fixture: &Fixture, image: &Image, name: &str) -> (Container, String) {
    let (key_id, key) = fixture.api.agent_key(json!({"permissions": muster_tests::ALL})).await;
    give_key(image, name, &key);
    let container = start(image, &fixture.server, name);
    let id = fixture.online(&key_id).await.id().to_owned();
    (container, id)
}

/// Kills the container of an agent, and waits until the server notices.
async fn cut(fixture: &Fixture, container: Container, id: &str) {
    container.kill();
    goes_offline(fixture, id).await;
}

/// Waits until the server reports an agent as offline.
async fn goes_offline(fixture: &Fixture, id: &str) {
    let path = format!("/api/agents/{id}");
    eventually("the server knows that the agent is gone", async || {
        (fixture.api.get(&path).await.expect(200)["status"] == "offline").then_some(())
    })
    .await;
}

/// Starts the container of an agent, for the first time or again.
fn start(image: &Image, server: &Server, name: &str) -> Container {
    let url = server.url();
    let variables = [("MUSTER_SERVER_URL", url.as_str()), ("MUSTER_BACKOFF_MAX_MS", "200")];
    Container::start(image, name, &variables)
}

/// Puts the key where the image expects it, as a secret: a file of another user that everyone can
/// read.
fn give_key(image: &Image, name: &str, key: &str) {
    let settings = Container::volume(image.test_dir(), name, "/etc/muster");
    std::fs::write(settings.join("agent_key"), format!("{key}\n")).expect("written");
    own(&settings, image.file.user());
}

/// A folder that is not empty keeps its owner, so it gets the image's user.
fn own(folder: &Path, (user, group): (u32, u32)) {
    std::os::unix::fs::chown(folder, Some(user), Some(group)).expect("chown");
}
