//! Releases that are no good, each in its way: the right verdict, and the host on duty.

use std::fs;
use std::path::Path;

use muster_protocol::release::{Platform, Program};
use muster_tests::{Publisher, World, current_version};
use serde_json::{Value, json};

use super::{ask, host, runs};

struct Scene {
    world: World,
    publisher: Publisher,
}

impl Scene {
    async fn new() -> Self {
        let world = World::on_sqlite().await;
        let publisher = Publisher::new(&world).await;
        Self { world, publisher }
    }

    /// A host is asked for 0.2.0 once `prepare` has had its program folder; the command in its end.
    async fn update(&self, prepare: impl FnOnce(&Path)) -> Value {
        let (_agent, id, folder) = host(&self.world, &self.publisher, "host", "0.1.0").await;
        prepare(&folder);
        let update = ask(&self.world, &id, "update", json!({"version": "0.2.0"})).await;
        let ended = self.world.api.finished(&update).await;
        assert_eq!(ended["state"], "failed", "{ended}");
        let shown = runs(&self.world, &id, "0.1.0").await;
        assert_eq!(shown["update"]["code"], ended["error_code"], "{shown} {ended}");
        assert_eq!(current_version(&folder), "0.1.0");
        self.world.ask(&id, "ping", json!({})).await;
        ended
    }

    /// A program as the server hands it out.
    fn handed_out(&self, program: Program) -> std::path::PathBuf {
        let platform = Platform::own().expect("a platform with releases").to_string();
        let folder = self.world.server.data_dir().join("releases/0.2.0").join(platform);
        folder.join(program.file_name())
    }
}

fn is(ended: &Value, verdict: &str, code: &str) {
    assert_eq!(ended["result"]["update_result"], verdict, "{ended}");
    assert_eq!(ended["error_code"], code, "{ended}");
}

#[tokio::test]
async fn an_agent_that_crashes_at_its_start_is_rolled_back() {
    let scene = Scene::new().await;
    scene.publisher.replace("0.2.0", Program::Agent, "[ \"$1\" = version ]");
    scene.publisher.release("0.2.0").await;
    is(&scene.update(|_| ()).await, "rolled_back", "crashed");
}

#[tokio::test]
async fn an_agent_that_never_registers_is_rolled_back() {
    let scene = Scene::new().await;
    let script = "[ \"$1\" = version ] && exit 0; exec sleep 600";
    scene.publisher.replace("0.2.0", Program::Agent, script);
    scene.publisher.release("0.2.0").await;
    is(&scene.update(|_| ()).await, "rolled_back", "not_registered");
}

#[tokio::test]
async fn programs_that_do_not_start_are_not_even_tried() {
    let scene = Scene::new().await;
    scene.publisher.replace("0.2.0", Program::Supervisor, "exit 3");
    scene.publisher.release("0.2.0").await;
    is(&scene.update(|_| ()).await, "rolled_back", "does_not_start");
}

#[tokio::test]
async fn a_program_that_was_exchanged_on_the_server_is_refused() {
    let scene = Scene::new().await;
    scene.publisher.release("0.2.0").await;
    let place = scene.handed_out(Program::Agent);
    let mut bytes = fs::read(&place).expect("read");
    let last = bytes.last_mut().expect("not empty");
    *last = last.wrapping_add(1);
    fs::write(&place, bytes).expect("write");
    is(&scene.update(|_| ()).await, "refused", "wrong_sum");
}

#[tokio::test]
async fn a_program_that_was_cut_off_on_the_server_is_refused() {
    let scene = Scene::new().await;
    scene.publisher.release("0.2.0").await;
    let file = fs::OpenOptions::new().write(true).open(scene.handed_out(Program::Agent));
    file.expect("open").set_len(1_000_000).expect("cut");
    is(&scene.update(|_| ()).await, "refused", "wrong_size");
}

#[tokio::test]
async fn a_manifest_that_was_altered_on_the_server_is_refused() {
    let scene = Scene::new().await;
    scene.publisher.release("0.2.0").await;
    scene.world.server.query("UPDATE releases SET manifest = manifest || char(10)");
    is(&scene.update(|_| ()).await, "refused", "bad_signature");
}

#[tokio::test]
async fn a_release_below_the_floor_and_one_of_a_strange_key_are_refused() {
    let scene = Scene::new().await;
    scene.publisher.release("0.2.0").await;
    let below =
        scene.update(|folder| fs::write(folder.join("release_floor"), "0.3.0\n").expect("write"));
    is(&below.await, "refused", "below_floor");

    let scene = Scene::new().await;
    scene.publisher.release("0.2.0").await;
    let strange = "0".repeat(64);
    let update =
        scene.update(|folder| fs::write(folder.join("release_key"), strange).expect("pin"));
    is(&update.await, "refused", "untrusted_key");
}

#[tokio::test]
async fn what_is_not_published_or_not_for_the_host_is_refused_before_it_is_sent() {
    let scene = Scene::new().await;
    let (_agent, id, _) = host(&scene.world, &scene.publisher, "host", "0.1.0").await;
    let path = format!("/api/agents/{id}/command");
    let refused = async |command: &str, data: Value, status: u16, code: &str| {
        let body = json!({"command": command, "data": data});
        scene.world.api.post(&path, body).await.expect_problem(status, code);
    };
    refused("update", json!({}), 409, "no_release").await;
    refused("redeploy", json!({}), 409, "no_release").await;
    refused("update", json!({"version": "newest"}), 422, "invalid_field").await;
    refused("update", json!({"verson": "0.2.0"}), 422, "invalid_field").await;
    refused("redeploy", json!({"version": "0.2.0"}), 422, "invalid_field").await;

    let programs = scene.publisher.programs("0.2.0");
    let (folder, key) = (scene.publisher.folder("0.2.0"), scene.publisher.key("key"));
    let elsewhere = format!("macos-aarch64={}", programs.display());
    let text = |path: &Path| path.to_str().expect("plain text").to_owned();
    let cli = &scene.publisher.cli;
    cli.run(&["release", "build", &text(&folder), "--program", &elsewhere]).await.expect(0);
    cli.run(&["release", "sign", &text(&folder), "--key", &text(&key)]).await.expect(0);
    scene.publisher.publish("0.2.0").await.expect(0);
    refused("update", json!({}), 409, "no_release").await;
    refused("update", json!({"version": "0.2.0"}), 409, "no_release").await;
}
