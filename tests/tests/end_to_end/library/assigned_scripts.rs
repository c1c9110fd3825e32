//! Scripts of the library that are assigned to hosts, with real servers and agents.

use std::path::{Path, PathBuf};

use muster_tests::{Fixture, JsonFields as _, eventually, on_both_databases};
use serde_json::{Value, json};

use super::assignments::{is_empty, lines, reported, runs};
use super::publishers::{Pinned, pinned, sign};
use super::{agent_with_policy, create, output};

on_both_databases!(
    a_script_runs_at_its_due_times_while_the_server_is_away_and_each_run_is_there_once,
    a_host_that_pins_publishers_runs_only_signed_versions_at_their_due_times,
);

/// A line for each run.
const BODY: &str = "echo \"$VERSION\" >>\"$LOG\"\necho \"ran for $WHO\"\n";

/// Saves a script that notes this version in its log, and returns its id.
async fn save_ticking(fixture: &Fixture) -> (String, PathBuf) {
    let log = fixture.test_dir.folder("log").join("runs");
    let script = version("1", &log);
    let mut script = script;
    script["name"] = "tick".into();
    let id = fixture.api.post("/api/scripts", script).await.expect(201).id().to_owned();
    (id, log)
}

fn version(version: &str, log: &Path) -> Value {
    json!({"body": BODY, "interpreter": "sh", "parameters": [
        {"name": "WHO", "required": true}, {"name": "VERSION", "default": version},
        {"name": "LOG", "default": log}]})
}

fn assignment(script: &str) -> Value {
    json!({"name": "ticks", "script": script, "target": {"expression": "all"},
        "schedule": {"every_ms": 1_000}, "parameters": {"WHO": "you"}})
}

async fn assign(fixture: &Fixture, body: Value) -> String {
    let created = fixture.api.post("/api/assignments", body).await.expect(201);
    format!("/api/assignments/{}", created.id())
}

fn last_line(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().last().unwrap_or_default().to_owned()
}

async fn a_script_runs_at_its_due_times_while_the_server_is_away_and_each_run_is_there_once(
    mut fixture: Fixture,
) {
    let (mut agent, id) = agent_with_policy(&fixture, json!({"allow": "library"})).await;
    let (script, log) = save_ticking(&fixture).await;
    let path = assign(&fixture, assignment("library:tick")).await;
    let shown = fixture.api.get(&path).await.expect(200);
    assert_eq!(
        (&shown["kind"], &shown["script"], &shown["schedule"]),
        (&json!("script"), &json!("library:tick@1"), &json!({"every_ms": 1_000})),
        "{shown}"
    );
    reported(&fixture, &path, "installed").await;
    eventually("the script has run", async || (lines(&log) > 0).then_some(())).await;
    fixture.server.stop();
    let before = lines(&log);
    eventually("the script runs without the server", async || {
        (lines(&log) > before + 2).then_some(())
    })
    .await;
    agent.kill_9();
    let killed = lines(&log);
    agent.resume();
    eventually("the script runs after a kill", async || (lines(&log) > killed + 1).then_some(()))
        .await;
    fixture.server.resume();
    fixture.server.ready().await;

    // Another version is the current one of the script, and changes no assignment.
    let next = version("2", &log);
    fixture.api.post(&format!("/api/scripts/{script}/versions"), next).await.expect(201);
    let before = lines(&log);
    eventually("it runs again", async || (lines(&log) > before + 1).then_some(())).await;
    assert_eq!(last_line(&log), "1");
    fixture.api.patch(&path, json!({"script": "library:tick@2"})).await.expect(200);
    eventually("the other version runs", async || (last_line(&log) == "2").then_some(())).await;
    let refused = fixture.api.delete(&format!("/api/scripts/{script}")).await;
    let refused = refused.expect_problem(409, "script_in_use");
    assert!(refused.text("detail").contains("assignment `ticks`"), "{refused}");

    fixture.api.delete(&path).await.expect(204);
    eventually("the host has no assignment", async || is_empty(&agent).then_some(())).await;
    let all = eventually("every run is stored and has ended", async || {
        let all = runs(&fixture).await;
        let has_ended = |run: &Value| run["finished_at"].is_string();
        (all.len() >= lines(&log) && all.iter().all(has_ended)).then_some(all)
    })
    .await;
    assert_eq!(all.len(), lines(&log), "each run once");
    for run in &all {
        assert_eq!((&run["state"], &run["agent_id"]), (&json!("succeeded"), &json!(id)), "{run}");
        assert_eq!(run["data"]["script"], "library:tick");
        assert_eq!(output(&fixture, run.id()).await, "ran for you\n");
    }
    let versions: Vec<_> =
        all.iter().map(|run| run["data"]["library"]["version"].clone()).collect();
    assert!(versions.starts_with(&[json!(1)]) && versions.ends_with(&[json!(2)]), "{versions:?}");
    assert!(versions.is_sorted_by_key(|version| version.as_u64()), "{versions:?}");
    fixture.api.delete(&format!("/api/scripts/{script}")).await.expect(204);
}

async fn a_host_that_pins_publishers_runs_only_signed_versions_at_their_due_times(
    fixture: Fixture,
) {
    let Pinned { _agent: agent, id: _, key } = pinned(&fixture).await;
    let log = fixture.test_dir.folder("log").join("runs");
    let body = format!("echo run >>{}\n", log.display());
    create(&fixture, "tick", &body).await;
    let assignment = json!({"name": "ticks", "script": "library:tick",
        "target": {"expression": "all"}, "schedule": {"every_ms": 1_000}});
    let path = assign(&fixture, assignment).await;
    let refused = reported(&fixture, &path, "failed").await;
    assert_eq!(refused["error_code"], "publisher_required", "{refused}");
    // Due times pass, and are skipped.
    let skipped = eventually("a due time is skipped", async || {
        let skipped = reported(&fixture, &path, "failed").await;
        skipped["skipped_count"].as_u64().filter(|count| *count > 1)
    })
    .await;
    assert!(skipped > 1 && !log.exists(), "the script has run");
    sign(&fixture, &key, "tick", "1", &body).await;
    reported(&fixture, &path, "installed").await;
    eventually("the script runs", async || log.exists().then_some(())).await;

    // The database of the server was changed: the host has the signed body already, and a host that joins gets none.
    fixture.server.query("UPDATE script_bodies SET body = 'touch /evil'");
    drop(agent);
    let state = fixture.test_dir.path().join("agent");
    let archives = state.join("package_archives");
    for file in std::fs::read_dir(&archives).expect("listed") {
        std::fs::remove_file(file.expect("an entry").path()).expect("removed");
    }
    let (agent, _) = fixture.agent(muster_tests::AgentOptions::named("agent")).await;
    let failed = reported(&fixture, &path, "failed").await;
    assert_eq!(failed["error_code"], "hash_mismatch", "{failed}");
    fixture.api.delete(&path).await.expect(204);
    eventually("the host has no assignment", async || is_empty(&agent).then_some(())).await;
}

#[tokio::test]
async fn a_version_that_hosts_refuse_halts_its_rollout() {
    let fixture = Fixture::on_sqlite().await;
    let Pinned { _agent: agent, id: _, key } = pinned(&fixture).await;
    let script = create(&fixture, "tick", "echo one\n").await;
    sign(&fixture, &key, "tick", "1", "echo one\n").await;
    let assignment = json!({"name": "ticks", "script": "library:tick@1",
        "target": {"expression": "all"}, "schedule": {"cron": "0 0 1 1 *"}});
    let path = assign(&fixture, assignment).await;
    reported(&fixture, &path, "installed").await;
    super::save(&fixture, &script, "echo unsigned\n").await;
    let waves = json!({"script": "library:tick@2", "rollout": {"wave_size": 1}});
    fixture.api.patch(&path, waves).await.expect(200);
    eventually("the rollout halts", async || {
        let shown = fixture.api.get(&path).await.expect(200);
        assert_ne!(shown["rollout"], Value::Null, "it ended as if its agents had the version");
        (shown["rollout"]["state"] == "halted").then_some(())
    })
    .await;
    let bodies = std::fs::read_dir(agent.state_dir().join("package_archives")).expect("listed");
    let bodies = bodies.map(|entry| std::fs::read_to_string(entry.expect("an entry").path()));
    assert!(!bodies.flatten().any(|body| body.contains("unsigned")), "it is not downloaded");
}

#[tokio::test]
async fn a_host_whose_key_is_disabled_runs_nothing_until_it_is_enabled() {
    let fixture = Fixture::on_sqlite().await;
    let options = muster_tests::AgentOptions::named("agent");
    let state = fixture.test_dir.folder(&options.name);
    muster_tests::write_policy(&state, &json!({"allow": "library"}).to_string());
    let (key_id, key) = fixture.api.agent_key(json!({})).await;
    let agent = muster_tests::Agent::start(&fixture.test_dir, &fixture.server.url(), &key, options);
    fixture.reported(&key_id).await;
    let (_, log) = save_ticking(&fixture).await;
    let path = assign(&fixture, assignment("library:tick")).await;
    eventually("the script has run", async || (lines(&log) > 0).then_some(())).await;
    let key = format!("/api/agents/keys/{key_id}");
    fixture.api.patch(&key, json!({"status": "disabled"})).await.expect(200);
    let cursors = agent.state_dir().join("task_cursors");
    let skipped = || {
        let file = std::fs::read_dir(&cursors).ok()?.next()?.ok()?.path();
        let text = std::fs::read_to_string(file).ok()?;
        let (_, count) = text.split_once("\"skipped_count\":")?;
        count.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<u64>().ok()
    };
    let before = eventually("a due time is skipped", async || skipped().filter(|n| *n > 0)).await;
    let runs_before = lines(&log);
    eventually("more are skipped", async || skipped().filter(|n| *n > before + 1)).await;
    assert_eq!(lines(&log), runs_before, "nothing runs");
    fixture.api.patch(&key, json!({"status": "active"})).await.expect(200);
    eventually("it runs again", async || (lines(&log) > runs_before).then_some(())).await;
    fixture.api.delete(&path).await.expect(204);
}

#[tokio::test]
async fn a_script_that_its_host_has_lost_is_downloaded_again() {
    let fixture = Fixture::on_sqlite().await;
    let (agent, _) = agent_with_policy(&fixture, json!({"allow": "library"})).await;
    let (_, log) = save_ticking(&fixture).await;
    let path = assign(&fixture, assignment("library:tick")).await;
    eventually("the script has run", async || (lines(&log) > 0).then_some(())).await;
    let archives = agent.state_dir().join("package_archives");
    let body = std::fs::read_dir(&archives).expect("listed").next().expect("a body");
    std::fs::write(body.expect("an entry").path(), "echo changed on the host\n").expect("written");
    let before = lines(&log);
    eventually("the script runs again", async || (lines(&log) > before + 1).then_some(())).await;
    fixture.api.delete(&path).await.expect(204);
    eventually("the host has no assignment", async || is_empty(&agent).then_some(())).await;
    for run in runs(&fixture).await {
        assert_eq!(output(&fixture, run.id()).await, "ran for you\n");
    }
}

#[tokio::test]
async fn the_body_of_a_script_is_for_agents_of_its_tenant_while_it_is_assigned() {
    let fixture = Fixture::on_sqlite().await;
    let (script, _) = save_ticking(&fixture).await;
    let saved = fixture.api.get(&format!("/api/scripts/{script}/versions/1")).await.expect(200);
    let path = format!("/api/agents/packages/{}", saved.text("sha256"));
    let (_, key) = fixture.api.agent_key(json!({})).await;
    let agent = fixture.api.with_key(&key);
    let (_, foreign) = fixture.other_tenant().await.agent_key(json!({})).await;
    let foreign = fixture.api.with_key(&foreign);
    agent.get(&path).await.expect_problem(404, "not_found");
    let assigned = assign(&fixture, assignment("library:tick")).await;
    let body = agent.get(&path).await;
    assert_eq!((body.status, body.bytes.as_slice()), (200, BODY.as_bytes()));
    foreign.get(&path).await.expect_problem(404, "not_found");
    // While another version reaches agents in waves, the others need the former one.
    let log = fixture.test_dir.path().join("log/runs");
    let mut next = version("2", &log);
    next["body"] = format!("{BODY}echo more\n").into();
    fixture.api.post(&format!("/api/scripts/{script}/versions"), next).await.expect(201);
    let waves = json!({"script": "library:tick@2", "rollout": {"wave_size": 1}});
    fixture.api.patch(&assigned, waves).await.expect(200);
    assert_eq!(agent.get(&path).await.status, 200);
    fixture.api.post(&format!("{assigned}/rollout/finish"), json!({})).await.expect(200);
    agent.get(&path).await.expect_problem(404, "not_found");
    fixture.api.delete(&assigned).await.expect(204);
}

#[tokio::test]
async fn a_deleted_script_leaves_its_hosts() {
    let fixture = Fixture::on_sqlite().await;
    let (agent, _) = agent_with_policy(&fixture, json!({"allow": "library"})).await;
    let (script, _) = save_ticking(&fixture).await;
    let path = assign(&fixture, assignment("library:tick@1")).await;
    reported(&fixture, &path, "installed").await;
    fixture.api.delete(&format!("/api/scripts/{script}?force=true")).await.expect(204);
    eventually("the host has no assignment", async || is_empty(&agent).then_some(())).await;
}

#[tokio::test]
async fn an_assignment_of_a_script_that_can_not_hold_is_refused_by_field() {
    let fixture = Fixture::on_sqlite().await;
    save_ticking(&fixture).await;
    let trigger = json!({"name": "watch", "body": "true\n", "interpreter": "sh",
        "has_trigger": true});
    fixture.api.post("/api/scripts", trigger).await.expect(201);
    let typed = json!({"name": "typed", "body": "true\n", "interpreter": "sh", "parameters": [
        {"name": "FILE", "type": "file"}, {"name": "TOKEN", "type": "secret"}]});
    fixture.api.post("/api/scripts", typed).await.expect(201);
    let with = |script: &str, field: &str, value: Value| {
        let mut body = assignment(script);
        body[field] = value;
        body
    };
    let none = || json!({});
    for (body, field) in [
        (assignment("library:none"), "script"),
        (assignment("library:tick@7"), "script"),
        (assignment("tick"), "script"),
        (with("library:watch", "parameters", none()), "script"),
        (with("library:tick", "schedule", Value::Null), "schedule"),
        (with("library:tick", "schedule", none()), "schedule"),
        (with("library:tick", "schedule", json!({"cron": "61 * * * *"})), "schedule.cron"),
        (with("library:tick", "schedule", json!({"every_ms": 5})), "schedule.every_ms"),
        (with("library:tick", "parameters", none()), "parameters"),
        (with("library:typed", "parameters", json!({"TOKEN": "a"})), "parameters"),
        (
            with(
                "library:typed",
                "parameters",
                json!({"FILE": "01900000-0000-7000-8000-000000000001"}),
            ),
            "parameters",
        ),
    ] {
        let refused = fixture.api.post("/api/assignments", body.clone()).await.expect(422);
        assert_eq!(refused["errors"][0]["field"], field, "{body} {refused}");
    }
    let path = assign(&fixture, assignment("library:tick")).await;
    for other in ["library:typed", "package:tick"] {
        let refused = fixture.api.patch(&path, json!({"script": other})).await.expect(422);
        assert_eq!(refused["errors"][0]["field"], "script", "{refused}");
    }
    let other = fixture.other_tenant().await;
    let foreign = other.post("/api/assignments", assignment("library:tick")).await.expect(422);
    assert_eq!(foreign["errors"][0]["field"], "script", "{foreign}");
}
