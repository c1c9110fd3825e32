//! Bad releases of several kinds: each has the right outcome, and the host keeps working.

use std::fs;
use std::path::Path;

use muster_protocol::release::{Platform, Program};
use muster_tests::{Fixture, Publisher, current_version};
use serde_json::{Value, json};

use super::{ask, host, runs};

struct BadRelease {
    fixture: Fixture,
    publisher: Publisher,
}

impl BadRelease {
    async fn new() -> Self {
        let fixture = Fixture::on_sqlite().await;
        let publisher = Publisher::new(&fixture).await;
        Self { fixture, publisher }
    }

    /// Requests 0.2.0 on a host after `prepare` has changed its program folder. Returns the ended
    /// command.
    async fn update(&self, prepare: impl FnOnce(&Path)) -> Value {
        let (_agent, id, folder) = host(&self.fixture, &self.publisher, "host", "0.1.0").await;
        prepare(&folder);
        let update = ask(&self.fixture, &id, "update", json!({"version": "0.2.0"})).await;
        let ended = self.fixture.api.finished(&update).await;
        assert_eq!(ended["state"], "failed", "{ended}");
        let shown = runs(&self.fixture, &id, "0.1.0").await;
        assert_eq!(shown["update"]["code"], ended["error_code"], "{shown} {ended}");
        assert_eq!(current_version(&folder), "0.1.0");
        self.fixture.ask(&id, "ping", json!({})).await;
        ended
    }

    /// A program as the server sends it.
    fn handed_out(&self, program: Program) -> std::path::PathBuf {
        let platform = Platform::own().expect("a platform with releases").to_string();
        let folder = self.fixture.server.data_dir().join("releases/0.2.0").join(platform);
        folder.join(program.file_name())
    }
}

fn is(ended: &Value, outcome: &str, code: &str) {
    assert_eq!(ended["result"]["update_result"], outcome, "{ended}");
    assert_eq!(ended["error_code"], code, "{ended}");
}

#[tokio::test]
async fn agent_that_crashes_at_start_is_rolled_back() {
    let scenario = BadRelease::new().await;
    scenario.publisher.replace("0.2.0", Program::Agent, "[ \"$1\" = version ]");
    scenario.publisher.release("0.2.0").await;
    is(&scenario.update(|_| ()).await, "rolled_back", "crashed");
}

#[tokio::test]
async fn agent_that_never_registers_is_rolled_back() {
    let scenario = BadRelease::new().await;
    let script = "[ \"$1\" = version ] && exit 0; exec sleep 600";
    scenario.publisher.replace("0.2.0", Program::Agent, script);
    scenario.publisher.release("0.2.0").await;
    is(&scenario.update(|_| ()).await, "rolled_back", "not_registered");
}

#[tokio::test]
async fn programs_that_do_not_start_get_no_trial() {
    let scenario = BadRelease::new().await;
    scenario.publisher.replace("0.2.0", Program::Supervisor, "exit 3");
    scenario.publisher.release("0.2.0").await;
    is(&scenario.update(|_| ()).await, "rolled_back", "does_not_start");
}

#[tokio::test]
async fn program_replaced_on_the_server_is_refused() {
    let scenario = BadRelease::new().await;
    scenario.publisher.release("0.2.0").await;
    let place = scenario.handed_out(Program::Agent);
    let mut bytes = fs::read(&place).expect("read");
    let last = bytes.last_mut().expect("not empty");
    *last = last.wrapping_add(1);
    fs::write(&place, bytes).expect("write");
    is(&scenario.update(|_| ()).await, "refused", "wrong_sum");
}

#[tokio::test]
async fn program_truncated_on_the_server_is_refused() {
    let scenario = BadRelease::new().await;
    scenario.publisher.release("0.2.0").await;
    let file = fs::OpenOptions::new().write(true).open(scenario.handed_out(Program::Agent));
    file.expect("open").set_len(1_000_000).expect("cut");
    is(&scenario.update(|_| ()).await, "refused", "wrong_size");
}

#[tokio::test]
async fn descriptor_altered_on_the_server_is_refused() {
    let scenario = BadRelease::new().await;
    scenario.publisher.release("0.2.0").await;
    scenario.fixture.server.query("UPDATE releases SET manifest = manifest || char(10)");
    is(&scenario.update(|_| ()).await, "refused", "bad_signature");
}

#[tokio::test]
async fn release_below_the_floor_or_of_an_unknown_key_is_refused() {
    let scenario = BadRelease::new().await;
    scenario.publisher.release("0.2.0").await;
    let below = scenario
        .update(|folder| fs::write(folder.join("release_floor"), "0.3.0\n").expect("write"));
    is(&below.await, "refused", "below_floor");

    let scenario = BadRelease::new().await;
    scenario.publisher.release("0.2.0").await;
    let strange = "0".repeat(64);
    let update =
        scenario.update(|folder| fs::write(folder.join("release_key"), strange).expect("pin"));
    is(&update.await, "refused", "untrusted_key");
}

#[tokio::test]
async fn unpublished_or_incompatible_release_is_refused_before_sending() {
    let scenario = BadRelease::new().await;
    let (_agent, id, _) = host(&scenario.fixture, &scenario.publisher, "host", "0.1.0").await;
    let path = format!("/api/agents/{id}/command");
    let refused = async |command: &str, data: Value, status: u16, code: &str| {
        let body = json!({"command": command, "data": data});
        scenario.fixture.api.post(&path, body).await.expect_problem(status, code);
    };
    refused("update", json!({}), 409, "no_release").await;
    refused("redeploy", json!({}), 409, "no_release").await;
    refused("update", json!({"version": "newest"}), 422, "invalid_field").await;
    refused("update", json!({"verson": "0.2.0"}), 422, "invalid_field").await;
    refused("redeploy", json!({"version": "0.2.0"}), 422, "invalid_field").await;

    let programs = scenario.publisher.programs("0.2.0");
    let (folder, key) = (scenario.publisher.folder("0.2.0"), scenario.publisher.key("key"));
    let elsewhere = format!("macos-aarch64={}", programs.display());
    let text = |path: &Path| path.to_str().expect("plain text").to_owned();
    let cli = &scenario.publisher.cli;
    cli.run(&["release", "build", &text(&folder), "--program", &elsewhere]).await.expect(0);
    cli.run(&["release", "sign", &text(&folder), "--key", &text(&key)]).await.expect(0);
    scenario.publisher.publish("0.2.0").await.expect(0);
    refused("update", json!({}), 409, "no_release").await;
    refused("update", json!({"version": "0.2.0"}), 409, "no_release").await;
}
