//! What an agent does at its start about the version that its group wants.

use std::fs;
use std::path::{Path, PathBuf};

use muster_protocol::release::{Platform, Program};
use muster_tests::{
    Agent, Publisher, World, current_version, eventually, on_both_databases, point_to,
};
use serde_json::{Value, json};

use super::groups::group;
use super::{host, runs};

on_both_databases!(
    a_host_that_was_set_back_comes_to_its_groups_version_by_itself,
    nobody_comes_by_itself_to_what_its_group_does_not_ask_for_now,
);

const ENDS: &str = "exiting so that the supervisor installs a release";

/// A host that its group has brought to 0.2.0.
struct Scene {
    world: World,
    publisher: Publisher,
    agent: Agent,
    id: String,
    folder: PathBuf,
    group: String,
}

impl Scene {
    async fn on(world: World) -> Self {
        let publisher = Publisher::new(&world).await;
        publisher.release("0.1.0").await;
        publisher.release("0.2.0").await;
        let (agent, id, folder) = host(&world, &publisher, "host", "0.1.0").await;
        let body =
            json!({"name": "all", "target": {"expression": "all"}, "desired_version": "0.2.0"});
        let made = world.api.post("/api/groups", body).await.expect(201);
        let name = made["id"].as_str().expect("an id").to_owned();
        let is_done =
            |shown: &Value| shown["up_to_date_count"] == 1 && shown["updating_count"] == 0;
        group(&world, &name, "the host is there", is_done).await;
        Self { world, publisher, agent, id, folder, group: name }
    }

    /// The host loses its power and comes back with its disk as it was before the update.
    fn set_back(&mut self) {
        self.agent.cut_power();
        point_to(&self.folder, "0.1.0");
        self.agent.resume();
    }

    async fn change_group(&self, what: &str) {
        let path = format!("/api/groups/{}/{what}", self.group);
        self.world.api.post(&path, json!({})).await.expect(200);
    }

    /// The trial is over, and well.
    async fn is_kept(&self) {
        let is_over = || !self.folder.join("trial.json").exists();
        let is_kept = || (self.current() == "0.2.0" && is_over()).then_some(());
        eventually("the new version is kept", async || is_kept()).await;
    }

    fn current(&self) -> String {
        current_version(&self.folder)
    }

    /// The agent is on duty and has thought about its version.
    async fn stays(&self, version: &str) {
        runs(&self.world, &self.id, version).await;
        // Its session begins with that thought.
        self.world.ask(&self.id, "ping", json!({})).await;
        assert_eq!(self.current(), version);
    }
}

/// How often the server has asked an agent for another version.
async fn commands(world: &World, id: &str) -> usize {
    let listed = world.api.get(&format!("/api/commands?agent_id={id}")).await.expect(200);
    let items = listed["items"].as_array().expect("a list");
    items.iter().filter(|command| command["command"] == "update").count()
}

/// How often an agent has asked for another version.
fn asked(agent: &Agent) -> usize {
    agent.log().matches(ENDS).count()
}

async fn a_host_that_was_set_back_comes_to_its_groups_version_by_itself(world: World) {
    let mut scene = Scene::on(world).await;
    scene.set_back();
    runs(&scene.world, &scene.id, "0.2.0").await;
    scene.is_kept().await;
    assert_eq!(commands(&scene.world, &scene.id).await, 1, "no second command");
    assert_eq!(asked(&scene.agent), 2);

    scene.agent.set("MUSTER_SKIP_UPDATE", Some("1"));
    scene.set_back();
    scene.stays("0.1.0").await;
    assert_eq!(asked(&scene.agent), 2);
}

async fn nobody_comes_by_itself_to_what_its_group_does_not_ask_for_now(world: World) {
    let mut scene = Scene::on(world).await;
    scene.change_group("pause").await;
    scene.set_back();
    scene.stays("0.1.0").await;
    assert_eq!(asked(&scene.agent), 1);
    // Its turn is over, not to come: only a start asks for it.
    scene.change_group("resume").await;
    scene.set_back();
    runs(&scene.world, &scene.id, "0.2.0").await;
    scene.is_kept().await;

    // Who comes new is asked by its wave, by a command.
    let (second, id, _) = host(&scene.world, &scene.publisher, "second", "0.1.0").await;
    runs(&scene.world, &id, "0.2.0").await;
    assert_eq!((commands(&scene.world, &id).await, asked(&second)), (1, 1));
}

#[tokio::test]
async fn a_version_that_was_refused_is_not_tried_at_every_start() {
    let mut scene = Scene::on(World::on_sqlite().await).await;
    let platform = Platform::own().expect("a platform with releases").to_string();
    let releases = scene.world.server.data_dir().join("releases/0.2.0").join(platform);
    spoil(&releases.join(Program::Agent.file_name()));
    scene.set_back();
    let agent = format!("/api/agents/{}", scene.id);
    let refused = async || {
        let shown = scene.world.api.get(&agent).await.expect(200);
        (shown["update"]["code"] == "wrong_sum").then_some(())
    };
    eventually("the version is refused", refused).await;
    scene.stays("0.1.0").await;
    assert_eq!(asked(&scene.agent), 2);
    for _ in 0..2 {
        scene.agent.cut_power();
        scene.agent.resume();
        scene.stays("0.1.0").await;
    }
    assert_eq!(asked(&scene.agent), 2, "it was tried again");
}

fn spoil(program: &Path) {
    let mut bytes = fs::read(program).expect("read");
    let last = bytes.last_mut().expect("not empty");
    *last = last.wrapping_add(1);
    fs::write(program, bytes).expect("write");
}
