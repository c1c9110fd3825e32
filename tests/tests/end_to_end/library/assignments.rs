//! Assignments and tasks, with real servers and agents.

use muster_tests::{
    Agent, AgentOptions, Fixture, JsonFields as _, eventually, file, on_both_databases, tar_zst,
    write_policy,
};
use serde_json::{Value, json};

use super::{agent_with_policy, output};

on_both_databases!(
    a_task_fires_while_the_server_is_away_and_each_run_is_there_once,
    an_assignment_converges_reports_drift_and_is_removed,
    a_task_that_is_killed_with_its_agent_never_runs_a_due_time_twice,
    another_tenant_sees_no_assignment,
);

/// Runs of tasks write a line with the time at which they ran.
const PROGRAM: &str = "echo run >>\"$LOG\"\necho \"ran for $WHO\"\n";

fn description(version: &str, schedule: &str) -> String {
    format!(
        "name = \"tick\"\nversion = \"{version}\"\nkind = \"task\"\nexecutor = \"sh\"\n\
         entry = \"run.sh\"\n[schedule]\n{schedule}\n[[parameters]]\nname = \"WHO\"\n\
         required = true\n[[parameters]]\nname = \"LOG\"\ndefault = \"/dev/null\"\n"
    )
}

async fn upload(fixture: &Fixture, version: &str, schedule: &str) -> Value {
    let description = description(version, schedule);
    let archive = tar_zst(&[file("muster.toml", &description), file("run.sh", PROGRAM)]);
    fixture.api.upload("/api/packages", archive).await.expect(201)
}

/// Assigns the version to all agents, and returns the path of the assignment.
async fn assign(fixture: &Fixture, version: &str, parameters: Value) -> String {
    let body = json!({"name": "ticks", "script": format!("package:tick@{version}"),
        "target": {"expression": "all"}, "parameters": parameters});
    let created = fixture.api.post("/api/assignments", body).await;
    let location = created.header("location").to_owned();
    let created = created.expect(201);
    assert_eq!(location, format!("/api/assignments/{}", created.id()));
    location
}

/// Waits until the only agent reports this state, and returns what it reports.
pub(super) async fn reported(fixture: &Fixture, path: &str, state: &str) -> Value {
    eventually(&format!("the agent reports {state}"), async || {
        let page = fixture.api.get(&format!("{path}/agents")).await.expect(200);
        page.list("items").iter().find(|agent| agent["state"] == state).cloned()
    })
    .await
}

/// The runs of tasks that the server knows, oldest first.
pub(super) async fn runs(fixture: &Fixture) -> Vec<Value> {
    let page = fixture.api.get("/api/executions?trigger=task&limit=500").await.expect(200);
    let mut runs = Vec::new();
    for item in page.list("items").iter().rev() {
        runs.push(fixture.api.command(item.id()).await);
    }
    runs
}

pub(super) fn lines(log: &std::path::Path) -> usize {
    std::fs::read_to_string(log).map_or(0, |text| text.lines().count())
}

async fn a_task_fires_while_the_server_is_away_and_each_run_is_there_once(mut fixture: Fixture) {
    let (mut agent, id) = agent_with_policy(&fixture, json!({"allow": "library"})).await;
    let log = fixture.test_dir.folder("log").join("runs");
    upload(&fixture, "1", "every_ms = 1000").await;
    let path = assign(&fixture, "1", json!({"WHO": "you", "LOG": log})).await;
    reported(&fixture, &path, "installed").await;
    eventually("the task has run", async || (lines(&log) > 0).then_some(())).await;
    fixture.server.stop();
    let before = lines(&log);
    eventually("the task runs without the server", async || {
        (lines(&log) > before + 2).then_some(())
    })
    .await;
    agent.kill_9();
    let killed = lines(&log);
    agent.resume();
    eventually("the task runs after a kill", async || (lines(&log) > killed + 1).then_some(()))
        .await;
    fixture.server.resume();
    fixture.server.ready().await;
    // No further due time, so that all runs can be counted.
    fixture.api.delete(&path).await.expect(204);
    let assigned = agent.state_dir().join("assignments.json");
    eventually("the host has no assignment", async || {
        let text = std::fs::read_to_string(&assigned).ok()?;
        text.contains("\"items\":[]").then_some(())
    })
    .await;
    let all = eventually("every run is stored and has ended", async || {
        let all = runs(&fixture).await;
        let has_ended = |run: &Value| run["finished_at"].is_string();
        (all.len() >= lines(&log) && all.iter().all(has_ended)).then_some(all)
    })
    .await;
    assert_eq!(all.len(), lines(&log), "each run once");
    let due: std::collections::BTreeSet<_> =
        all.iter().map(|run| run["data"]["task"]["due_at"].to_string()).collect();
    assert_eq!(due.len(), all.len(), "each due time once");
    for run in &all {
        assert_eq!((&run["state"], &run["agent_id"]), (&json!("succeeded"), &json!(id)), "{run}");
        assert_eq!(run["data"]["script"], "package:tick");
        assert_eq!(output(&fixture, run.id()).await, "ran for you\n");
    }
    let audit = fixture.api.get("/api/audit?action=command.run&limit=500").await.expect(200);
    assert_eq!(audit.list("items").len(), all.len());
}

async fn an_assignment_converges_reports_drift_and_is_removed(fixture: Fixture) {
    let (mut agent, _) = agent_with_policy(&fixture, json!({})).await;
    let first = upload(&fixture, "1", "cron = \"0 0 1 1 *\"\ntime_zone = \"Europe/Berlin\"").await;
    upload(&fixture, "2", "cron = \"0 0 1 1 *\"").await;
    let path = assign(&fixture, "1", json!({"WHO": "you"})).await;
    let refused = reported(&fixture, &path, "failed").await;
    assert_eq!(refused["error_code"], "library_not_allowed", "{refused}");
    agent.write_policy(&json!({"allow": "library"}).to_string());
    // It reads its policy when it starts, and at each heartbeat.
    agent.kill_9();
    agent.resume();
    reported(&fixture, &path, "installed").await;
    let archives = agent.state_dir().join("package_archives");
    assert!(archives.join(first.text("sha256")).exists());
    let package = format!("/api/packages/{}", first.id());
    fixture.api.delete(&package).await.expect_problem(409, "package_assigned");

    // Another version, and a newcomer.
    fixture.api.patch(&path, json!({"script": "package:tick@2"})).await.expect(200);
    reported(&fixture, &path, "installed").await;
    assert!(!archives.join(first.text("sha256")).exists(), "the old version is removed");
    let options = AgentOptions::named("newcomer");
    write_policy(&fixture.test_dir.folder("newcomer"), &json!({"allow": "library"}).to_string());
    let (newcomer, newcomer_id) = fixture.agent(options).await;
    eventually("the newcomer has it too", async || {
        let page = fixture.api.get(&format!("{path}/agents")).await.expect(200);
        let is_done = |agent: &&Value| {
            agent["agent_id"] == newcomer_id.as_str() && agent["state"] == "installed"
        };
        page.list("items").iter().find(is_done).map(|_| ())
    })
    .await;
    fixture.api.delete(&path).await.expect(204);
    fixture.api.get(&path).await.expect_problem(404, "not_found");
    for agent in [&agent, &newcomer] {
        eventually("the host has removed it", async || is_empty(agent).then_some(())).await;
    }
}

/// True if the host has no archive and no state of a task.
pub(super) fn is_empty(agent: &Agent) -> bool {
    ["package_archives", "task_cursors"].iter().all(|folder| {
        std::fs::read_dir(agent.state_dir().join(folder)).is_ok_and(|files| files.count() == 0)
    })
}

async fn a_task_that_is_killed_with_its_agent_never_runs_a_due_time_twice(fixture: Fixture) {
    let (mut agent, _) = agent_with_policy(&fixture, json!({"allow": "library"})).await;
    let log = fixture.test_dir.folder("log").join("runs");
    upload(&fixture, "1", "every_ms = 1000").await;
    let path = assign(&fixture, "1", json!({"WHO": "you", "LOG": log})).await;
    reported(&fixture, &path, "installed").await;
    let id = path.rsplit('/').next().expect("an id");
    let cursor = agent.state_dir().join("task_cursors").join(id);
    for _ in 0..5 {
        let handled = std::fs::read(&cursor).expect("a cursor");
        let before = lines(&log);
        eventually("another run", async || (lines(&log) > before).then_some(())).await;
        agent.kill_9();
        // As after a kill between the ledger and the cursor: the last due time is handled again.
        std::fs::write(&cursor, handled).expect("written");
        agent.resume();
    }
    fixture.api.delete(&path).await.expect(204);
    eventually("the host has no assignment", async || is_empty(&agent).then_some(())).await;
    let all = eventually("every run has ended", async || {
        let all = runs(&fixture).await;
        all.iter().all(|run| run["finished_at"].is_string()).then_some(all)
    })
    .await;
    let due: std::collections::BTreeSet<_> =
        all.iter().map(|run| run["data"]["task"]["due_at"].to_string()).collect();
    assert_eq!(due.len(), all.len());
    let succeeded = all.iter().filter(|run| run["state"] == "succeeded").count();
    assert_eq!(succeeded, lines(&log), "each run is reported once: {all:?}");
}

async fn another_tenant_sees_no_assignment(fixture: Fixture) {
    upload(&fixture, "1", "every_ms = 60000").await;
    let path = assign(&fixture, "1", json!({"WHO": "you"})).await;
    let other = fixture.other_tenant().await;
    let page = other.get("/api/assignments").await.expect(200);
    assert_eq!(page.list("items").len(), 0);
    for path in [path.clone(), format!("{path}/agents")] {
        other.get(&path).await.expect_problem(404, "not_found");
    }
    other.patch(&path, json!({"name": "stolen"})).await.expect_problem(404, "not_found");
    other.delete(&path).await.expect_problem(404, "not_found");
    let body = json!({"name": "x", "script": "package:tick", "target": {"expression": "all"}});
    other.post("/api/assignments", body).await.expect_problem(422, "invalid_field");
}

#[tokio::test]
async fn an_assignment_that_can_not_hold_is_refused_by_field() {
    let fixture = Fixture::on_sqlite().await;
    let job = "name = \"job\"\nversion = \"1\"\nkind = \"job\"\nexecutor = \"sh\"\nentry = \"a\"\n";
    let archive = tar_zst(&[file("muster.toml", job), file("a", "true\n")]);
    fixture.api.upload("/api/packages", archive).await.expect(201);
    upload(&fixture, "1", "every_ms = 60000").await;
    let body = |package: &str, parameters: Value| {
        json!({"name": "a", "script": package, "target": {"expression": "all"},
            "parameters": parameters})
    };
    for (body, field) in [
        (body("package:job", json!({})), "script"),
        (body("package:none", json!({})), "script"),
        (body("tick", json!({})), "script"),
        (body("package:tick", json!({})), "parameters"),
        (body("package:tick", json!({"WHO": "a", "OTHER": "b"})), "parameters"),
    ] {
        let refused = fixture.api.post("/api/assignments", body).await.expect(422);
        assert_eq!(refused["errors"][0]["field"], field, "{refused}");
    }
    let path = assign(&fixture, "1", json!({"WHO": "you"})).await;
    let again = body("package:tick", json!({"WHO": "you"}));
    let again = json!({"name": "ticks", "script": again["script"], "target": again["target"],
        "parameters": again["parameters"]});
    fixture.api.post("/api/assignments", again).await.expect_problem(409, "assignment_exists");
    let other = json!({"script": "package:job"});
    let refused = fixture.api.patch(&path, other).await.expect(422);
    assert_eq!(refused["errors"][0]["field"], "script");
    // A rule of approval made later asks for consent that an assignment can't wait for.
    let rule = json!({"name": "all packages", "condition": {"scripts": ["package:tick"]}});
    if fixture.api.post("/api/approvals/rules", rule).await.status == 201 {
        let renamed = fixture.api.patch(&path, json!({"name": "other"})).await;
        renamed.expect_problem(403, "approval_needed");
    }
}
