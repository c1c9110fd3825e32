//! An agent that starts with another version than its group desires.

use std::fs;
use std::path::{Path, PathBuf};

use muster_protocol::release::{Platform, Program};
use muster_tests::{
    Agent, Fixture, JsonFields as _, Publisher, current_version, eventually, on_both_databases,
    point_to,
};
use serde_json::{Value, json};

use super::groups::group;
use super::{host, runs};

on_both_databases!(
    host_with_an_older_version_updates_itself_to_the_version_of_its_group,
    hosts_do_not_update_themselves_to_a_version_their_group_no_longer_wants,
);

const ENDS: &str = "exiting so that the supervisor installs a release";

/// A host that its group has updated to 0.2.0.
struct UpdatedHost {
    fixture: Fixture,
    publisher: Publisher,
    agent: Agent,
    id: String,
    folder: PathBuf,
    group: String,
}

impl UpdatedHost {
    async fn on(fixture: Fixture) -> Self {
        let publisher = Publisher::new(&fixture).await;
        publisher.release("0.1.0").await;
        publisher.release("0.2.0").await;
        let (agent, id, folder) = host(&fixture, &publisher, "host", "0.1.0").await;
        let body =
            json!({"name": "all", "target": {"expression": "all"}, "desired_version": "0.2.0"});
        let made = fixture.api.post("/api/groups", body).await.expect(201);
        let name = made.id().to_owned();
        let is_done =
            |shown: &Value| shown["up_to_date_count"] == 1 && shown["updating_count"] == 0;
        group(&fixture, &name, "the host is there", is_done).await;
        Self { fixture, publisher, agent, id, folder, group: name }
    }

    /// The host loses power and starts again with its disk as it was before the update.
    fn set_back(&mut self) {
        self.agent.cut_power();
        point_to(&self.folder, "0.1.0");
        self.agent.resume();
    }

    async fn change_group(&self, what: &str) {
        let path = format!("/api/groups/{}/{what}", self.group);
        self.fixture.api.post(&path, json!({})).await.expect(200);
    }

    /// The trial has ended successfully.
    async fn is_kept(&self) {
        let is_over = || !self.folder.join("trial.json").exists();
        let is_kept = || (self.current() == "0.2.0" && is_over()).then_some(());
        eventually("the new version is kept", async || is_kept()).await;
    }

    fn current(&self) -> String {
        current_version(&self.folder)
    }

    /// The agent is online and has decided about its version.
    async fn stays(&self, version: &str) {
        runs(&self.fixture, &self.id, version).await;
        // It decides at the start of its session. Until it connects again, the server refuses the question.
        let path = format!("/api/agents/{}/command", self.id);
        eventually("the agent answers", async || {
            let asked = self.fixture.api.post(&path, json!({"command": "ping"})).await;
            (asked.status == 200).then_some(())
        })
        .await;
        assert_eq!(self.current(), version);
    }
}

/// How often the server has requested an update of an agent.
async fn commands(fixture: &Fixture, id: &str) -> usize {
    let listed = fixture.api.get(&format!("/api/commands?agent_id={id}")).await.expect(200);
    let items = listed.list("items");
    items.iter().filter(|command| command["command"] == "update").count()
}

/// How often an agent has requested an update by itself.
fn asked(agent: &Agent) -> usize {
    agent.log().matches(ENDS).count()
}

async fn host_with_an_older_version_updates_itself_to_the_version_of_its_group(fixture: Fixture) {
    let mut scenario = UpdatedHost::on(fixture).await;
    scenario.set_back();
    runs(&scenario.fixture, &scenario.id, "0.2.0").await;
    scenario.is_kept().await;
    assert_eq!(commands(&scenario.fixture, &scenario.id).await, 1, "no second command");
    assert_eq!(asked(&scenario.agent), 2);
    // The owner of the host sees both requests, and how they ended.
    let log = scenario.agent.state_dir().join("requests-life-cycle.log");
    let log = fs::read_to_string(log).expect("the log");
    for expected in [
        r#""request":"update","command_id":"#,
        r#""request":"update (desired version)","version":"0.2.0","answer":"accepted""#,
        r#""request":"update result","version":"0.2.0","answer":"accepted""#,
    ] {
        assert!(log.contains(expected), "{expected} is missing:\n{log}");
    }

    scenario.agent.set("MUSTER_SKIP_UPDATE", Some("1"));
    scenario.set_back();
    scenario.stays("0.1.0").await;
    assert_eq!(asked(&scenario.agent), 2);
}

async fn hosts_do_not_update_themselves_to_a_version_their_group_no_longer_wants(fixture: Fixture) {
    let mut scenario = UpdatedHost::on(fixture).await;
    scenario.change_group("pause").await;
    scenario.set_back();
    scenario.stays("0.1.0").await;
    assert_eq!(asked(&scenario.agent), 1);
    // It does not update itself now, because only a start triggers that.
    scenario.change_group("resume").await;
    scenario.set_back();
    runs(&scenario.fixture, &scenario.id, "0.2.0").await;
    scenario.is_kept().await;

    // A new agent is updated in its wave, by a command.
    let (second, id, _) = host(&scenario.fixture, &scenario.publisher, "second", "0.1.0").await;
    runs(&scenario.fixture, &id, "0.2.0").await;
    assert_eq!((commands(&scenario.fixture, &id).await, asked(&second)), (1, 1));
}

#[tokio::test]
async fn refused_version_is_not_retried_at_every_start() {
    let mut scenario = UpdatedHost::on(Fixture::on_sqlite().await).await;
    let platform = Platform::own().expect("a platform with releases").to_string();
    let releases = scenario.fixture.server.data_dir().join("releases/0.2.0").join(platform);
    spoil(&releases.join(Program::Agent.file_name()));
    scenario.set_back();
    let agent = format!("/api/agents/{}", scenario.id);
    let refused = async || {
        let shown = scenario.fixture.api.get(&agent).await.expect(200);
        (shown["update"]["code"] == "wrong_sum").then_some(())
    };
    eventually("the version is refused", refused).await;
    scenario.stays("0.1.0").await;
    assert_eq!(asked(&scenario.agent), 2);
    for _ in 0..2 {
        scenario.agent.cut_power();
        scenario.agent.resume();
        scenario.stays("0.1.0").await;
    }
    assert_eq!(asked(&scenario.agent), 2, "it was tried again");
}

fn spoil(program: &Path) {
    let mut bytes = fs::read(program).expect("read");
    let last = bytes.last_mut().expect("not empty");
    *last = last.wrapping_add(1);
    fs::write(program, bytes).expect("write");
}
