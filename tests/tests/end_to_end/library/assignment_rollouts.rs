//! Versions of assignments that reach their agents in waves, with real servers and agents.

use std::collections::BTreeMap;
use std::path::PathBuf;

use muster_tests::{
    Agent, AgentOptions, Fixture, JsonFields as _, eventually, on_both_databases, write_policy,
};
use serde_json::{Value, json};

use super::publishers::keygen;
use super::signed_packages::{own_package, push, sign};

on_both_databases!(
    a_failed_wave_halts_and_the_others_keep_the_former_version,
    a_rollout_that_is_aborted_brings_the_former_version_back,
    a_new_assignment_reaches_its_agents_in_waves_also_those_that_join,
    a_rollout_goes_on_after_the_server_is_killed_in_the_middle_of_a_wave,
);

const KIND: &str = "kind = \"task\"\n[schedule]\ncron = \"0 0 1 1 *\"";

/// Agents whose hosts run only what the publisher has signed, so that an unsigned version fails on each.
struct Fleet {
    fixture: Fixture,
    agents: Vec<Agent>,
    /// Names by id.
    names: BTreeMap<String, String>,
    public_key: String,
    key: PathBuf,
}

impl Fleet {
    async fn of(fixture: Fixture, names: &[&str]) -> Self {
        let (key, public_key) = keygen(&fixture, "publisher.pem").await;
        let mut fleet =
            Self { fixture, agents: Vec::new(), names: BTreeMap::new(), public_key, key };
        for name in names {
            fleet.join(name).await;
        }
        for version in ["1", "2"] {
            push(&fleet.fixture, &fleet.package(version)).await;
        }
        fleet.sign("1").await;
        fleet
    }

    async fn join(&mut self, name: &str) {
        let policy = json!({"allow": "library", "publishers": [self.public_key]});
        write_policy(&self.fixture.test_dir.folder(name), &policy.to_string());
        let (agent, id) = self.fixture.agent(AgentOptions::named(name)).await;
        self.names.insert(id, name.to_owned());
        self.agents.push(agent);
    }

    fn package(&self, version: &str) -> String {
        own_package(&self.fixture, "tick", version, "true\n", KIND)
    }

    async fn sign(&self, version: &str) {
        sign(&self.fixture, &self.package(version), &self.key, &[]).await;
    }

    /// Assigns version 1 to all agents, and returns the path.
    async fn assigned(&self) -> String {
        let body = json!({"name": "ticks", "script": "package:tick@1",
            "target": {"expression": "all"}});
        let assignment = self.fixture.api.post("/api/assignments", body).await.expect(201);
        let path = format!("/api/assignments/{}", assignment.id());
        self.has(&path, &[("a", "1 installed"), ("b", "1 installed"), ("c", "1 installed")]).await;
        path
    }

    async fn roll_out(&self, path: &str) -> Value {
        let body = json!({"script": "package:tick@2", "rollout": {"wave_size": 1}});
        self.fixture.api.patch(path, body).await.expect(200)
    }

    /// Waits until each agent has this version in this state.
    async fn has(&self, path: &str, wanted: &[(&str, &str)]) {
        let wanted: BTreeMap<String, String> =
            wanted.iter().map(|(name, is)| ((*name).to_owned(), (*is).to_owned())).collect();
        eventually(&format!("{wanted:?}"), async || {
            (self.states(path).await == wanted).then_some(())
        })
        .await;
    }

    async fn states(&self, path: &str) -> BTreeMap<String, String> {
        let page = self.fixture.api.get(&format!("{path}/agents")).await.expect(200);
        let state = |agent: &Value| {
            let version = agent["version"].as_str().unwrap_or("-");
            let name = self.names[agent.text("agent_id")].clone();
            (name, format!("{version} {}", agent.text("state")))
        };
        page.list("items").iter().map(state).collect()
    }

    async fn halted(&self, path: &str) -> Value {
        eventually("the rollout halts", async || {
            let assignment = self.fixture.api.get(path).await.expect(200);
            (assignment["rollout"]["state"] == "halted").then_some(assignment)
        })
        .await
    }

    async fn ended(&self, path: &str) -> Value {
        eventually("the rollout ends", async || {
            let assignment = self.fixture.api.get(path).await.expect(200);
            assignment["rollout"].is_null().then_some(assignment)
        })
        .await
    }
}

async fn a_failed_wave_halts_and_the_others_keep_the_former_version(fixture: Fixture) {
    let fleet = Fleet::of(fixture, &["a", "b", "c"]).await;
    let path = fleet.assigned().await;
    let api = &fleet.fixture.api;
    let begun = fleet.roll_out(&path).await;
    assert_eq!(begun["rollout"]["former_script"], "package:tick@1", "{begun}");
    let halted = fleet.halted(&path).await;
    let reason = halted["rollout"].text("halt_reason");
    assert!(reason.starts_with("Halted: 1 failed, the limit is 0."), "{reason}");
    assert_eq!(halted["rollout"]["wave"], 1, "{halted}");
    let kept = [("a", "2 failed"), ("b", "1 installed"), ("c", "1 installed")];
    fleet.has(&path, &kept).await;
    // While it is under way no other version can be chosen, nor a package deleted that agents have.
    let again = json!({"script": "package:tick@1"});
    api.patch(&path, again).await.expect_problem(409, "rollout_under_way");
    let packages = api.get("/api/packages?name=tick").await.expect(200);
    for package in packages.list("items") {
        let path = format!("/api/packages/{}", package.id());
        api.delete(&path).await.expect_problem(409, "package_assigned");
    }
    api.patch(&path, json!({"name": "renamed"})).await.expect(200);
    fleet.has(&path, &kept).await;
    // What halted is signed, and the rollout goes on.
    fleet.sign("2").await;
    fleet.has(&path, &[("a", "2 installed"), ("b", "1 installed"), ("c", "1 installed")]).await;
    let resumed = fleet.fixture.cli().await.run(&["assignments", "resume", "renamed"]).await;
    resumed.expect(0);
    let ended = fleet.ended(&path).await;
    assert_eq!(ended["script"], "package:tick@2", "{ended}");
    fleet.has(&path, &[("a", "2 installed"), ("b", "2 installed"), ("c", "2 installed")]).await;
    let audit = api.get("/api/audit?limit=100").await.expect(200);
    let actions: Vec<&str> = audit.list("items").iter().map(|entry| entry.text("action")).collect();
    for action in ["assignment.halt", "assignment.resume", "assignment.finish"] {
        assert_eq!(actions.iter().filter(|known| **known == action).count(), 1, "{action}");
    }
    api.post(&format!("{path}/rollout/abort"), json!({})).await.expect_problem(409, "no_rollout");
}

async fn a_rollout_that_is_aborted_brings_the_former_version_back(fixture: Fixture) {
    let mut fleet = Fleet::of(fixture, &["a", "b", "c"]).await;
    let path = fleet.assigned().await;
    fleet.roll_out(&path).await;
    fleet.halted(&path).await;
    // The server forgets nothing, and a newcomer gets what the others have.
    fleet.fixture.server.stop();
    fleet.fixture.server.resume();
    fleet.fixture.server.ready().await;
    fleet.join("d").await;
    let kept =
        [("a", "2 failed"), ("b", "1 installed"), ("c", "1 installed"), ("d", "1 installed")];
    fleet.has(&path, &kept).await;
    let aborted = fleet.fixture.api.post(&format!("{path}/rollout/abort"), json!({})).await;
    let aborted = aborted.expect(200);
    assert_eq!((&aborted["script"], &aborted["rollout"]), (&json!("package:tick@1"), &json!(null)));
    let all =
        [("a", "1 installed"), ("b", "1 installed"), ("c", "1 installed"), ("d", "1 installed")];
    fleet.has(&path, &all).await;
}

async fn a_new_assignment_reaches_its_agents_in_waves_also_those_that_join(fixture: Fixture) {
    let mut fleet = Fleet::of(fixture, &["a", "b"]).await;
    let cli = fleet.fixture.cli().await;
    let args = ["assignments", "add", "ticks", "--package", "tick@2", "--on", "all", "--wave", "1"];
    let created = cli.run(&[&args[..], &["--json"]].concat()).await.json();
    let path = format!("/api/assignments/{}", created.id());
    fleet.halted(&path).await;
    fleet.has(&path, &[("a", "2 failed"), ("b", "- held")]).await;
    let api = &fleet.fixture.api;
    let abort = format!("{path}/rollout/abort");
    api.post(&abort, json!({})).await.expect_problem(409, "no_former_version");
    fleet.sign("2").await;
    api.post(&format!("{path}/rollout/resume"), json!({})).await.expect(200);
    fleet.ended(&path).await;
    fleet.has(&path, &[("a", "2 installed"), ("b", "2 installed")]).await;
    fleet.join("c").await;
    let all = [("a", "2 installed"), ("b", "2 installed"), ("c", "2 installed")];
    fleet.has(&path, &all).await;
}

async fn a_rollout_goes_on_after_the_server_is_killed_in_the_middle_of_a_wave(fixture: Fixture) {
    let mut fleet = Fleet::of(fixture, &["a", "b", "c"]).await;
    fleet.sign("2").await;
    let path = fleet.assigned().await;
    // The wave can't end before the server is killed: its agents must stay connected for a while.
    let rollout = json!({"wave_size": 1, "healthy_for_ms": 3_000});
    let body = json!({"script": "package:tick@2", "rollout": rollout});
    fleet.fixture.api.patch(&path, body).await.expect(200);
    eventually("the first wave has started", async || {
        let assignment = fleet.fixture.api.get(&path).await.expect(200);
        (assignment["rollout"]["wave"] == 1).then_some(())
    })
    .await;
    fleet.fixture.server.kill_9();
    fleet.fixture.server.resume();
    fleet.fixture.server.ready().await;
    let ended = fleet.ended(&path).await;
    assert_eq!(ended["script"], "package:tick@2", "{ended}");
    fleet.has(&path, &[("a", "2 installed"), ("b", "2 installed"), ("c", "2 installed")]).await;
    let audit = fleet.fixture.api.get("/api/audit?action=assignment.finish").await.expect(200);
    let entries = audit.list("items");
    assert_eq!((entries.len(), &entries[0]["detail"]["wave"]), (1, &json!(3)), "{audit}");
}
