//! The server's storage: it fails and returns, is restored from a backup, and is locked against a
//! second server.

use std::process::Command;

use muster_tests::{
    AgentOptions, Database, Fixture, PostgresCluster, Script, Server, ServerOptions, TestDir,
    eventually, on_both_databases,
};
use reqwest::Method;
use serde_json::json;

on_both_databases!(
    restarted_server_keeps_all_its_data,
    second_server_on_the_same_storage_is_refused,
    agents_reconnect_to_a_server_that_was_stopped,
);

async fn restarted_server_keeps_all_its_data(mut fixture: Fixture) {
    let options = AgentOptions::with_scripts([Script::new("hi", "echo hi")]);
    let (_agent, agent) = fixture.agent(options).await;
    let id = fixture.api.execute(&agent, "hi", json!({})).await;
    let before = fixture.api.finished(&id).await;
    fixture.server.kill_9();
    fixture.server.resume();
    fixture.server.ready().await;
    assert_eq!(fixture.api.command(&id).await, before);
    assert_eq!(fixture.api.output(&id).await, b"hi\n");
    fixture.reached_over(&agent, "websocket").await;
}

async fn second_server_on_the_same_storage_is_refused(fixture: Fixture) {
    let mut second = fixture.server.spawn_elsewhere();
    let status = second.ended().await;
    assert!(!status.success());
    fixture.api.get("/readyz").await.expect(200);
}

async fn agents_reconnect_to_a_server_that_was_stopped(mut fixture: Fixture) {
    let (_agent, agent) = fixture.agent(AgentOptions::named("agent")).await;
    fixture.server.stop();
    fixture.server.resume();
    fixture.reached_over(&agent, "websocket").await;
}

#[tokio::test]
async fn database_outage_loses_no_accepted_work() {
    let mut fixture = Fixture::on_cluster().await;
    let script = Script::counting("long", 4_000, 50, "0.05");
    let (_agent, agent) = fixture.agent(AgentOptions::with_scripts([script])).await;
    let id = fixture.api.execute(&agent, "long", json!({})).await;
    fixture.api.output_reaches(&id, 1).await;

    fixture.server.cluster().stop();
    let path = format!("/api/agents/{agent}/command");
    let body = json!({"command": "execute", "data": {"script": "long"}});
    let refused = fixture.api.post(&path, body).await;
    refused.expect_problem(503, "storage_unavailable");
    eventually("the server says that it is not ready", async || {
        (fixture.api.get("/readyz").await.status == 503).then_some(())
    })
    .await;
    // It is alive, but not ready.
    fixture.api.get("/healthz").await.expect(200);

    fixture.server.cluster().resume();
    fixture.server.ready().await;
    let command = fixture.api.finished(&id).await;
    assert_eq!(command["state"], "succeeded", "{command}");
    assert!(fixture.api.output(&id).await == Script::counted(4_000), "the output differs");
    let listed = fixture.api.get("/api/commands").await.expect(200);
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "a refused command was kept");
}

#[tokio::test]
async fn server_without_its_database_reports_it_and_exits() {
    let test_dir = TestDir::new();
    let mut postgres = PostgresCluster::start(&test_dir);
    postgres.stop();
    let options = ServerOptions::default();
    let mut server = Server::unstarted(&test_dir, Database::Cluster(postgres), options).spawn();
    let status = server.ended().await;
    assert!(!status.success());
    let log = server.log();
    assert!(log.contains("database") || log.contains("connect"), "{log}");
    assert!(!log.contains("panicked"), "{log}");
}

#[tokio::test]
async fn server_restored_from_an_older_backup_reports_it_and_keeps_working() {
    // The agent removes folders with each heartbeat.
    let often = ServerOptions::default().with("MUSTER_HEARTBEAT_INTERVAL_MS", 500);
    let mut fixture = Fixture::with(often).await;
    let scripts = [Script::counting("long", 3_000, 50, "0.05"), Script::new("hi", "echo hi")];
    let (agent, id) = fixture.agent(AgentOptions::with_scripts(scripts)).await;
    let kept = fixture.api.execute(&id, "hi", json!({})).await;
    fixture.api.finished(&kept).await;

    fixture.server.stop();
    let backup = fixture.test_dir.path().join("backup");
    copy(fixture.server.data_dir(), &backup);
    fixture.server.resume();
    fixture.reached_over(&id, "websocket").await;
    let forgotten = fixture.api.execute(&id, "long", json!({})).await;
    fixture.api.output_reaches(&forgotten, 1).await;

    fixture.server.kill_9();
    std::fs::remove_dir_all(fixture.server.data_dir()).expect("lose the data");
    copy(&backup, fixture.server.data_dir());
    fixture.server.resume();
    fixture.server.ready().await;
    fixture.reached_over(&id, "websocket").await;
    assert_eq!(fixture.api.command(&kept).await["state"], "succeeded");
    let path = format!("/api/commands/{forgotten}");
    fixture.api.get(&path).await.expect_problem(404, "not_found");
    eventually("the restore is in the agent's events", async || {
        let events = fixture.api.get(&format!("/api/agents/{id}/events")).await.expect(200);
        events.to_string().contains("server_restored").then_some(())
    })
    .await;
    // The agent drops the execution that the restored server does not know, and runs new work.
    eventually("the forgotten job ends", async || agent.shim_ids().is_empty().then_some(())).await;
    let after = fixture.api.execute(&id, "hi", json!({})).await;
    assert_eq!(fixture.api.finished(&after).await["state"], "succeeded");
    eventually("the agent was told that its report is not wanted", async || {
        let jobs = std::fs::read_dir(agent.state_dir().join("executions")).ok()?;
        (jobs.count() == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn bootstrap_key_is_written_once_for_its_owner_or_read_from_the_environment() {
    let mut fixture = Fixture::on_sqlite().await;
    let file = fixture.server.data_dir().join("bootstrap_key");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(&file).expect("the file").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    let key = std::fs::read_to_string(&file).expect("the key");
    assert!(!fixture.server.log().contains(key.trim()), "the key is in the log");
    fixture.server.stop();
    fixture.server.resume();
    assert_eq!(std::fs::read_to_string(&file).expect("the key"), key);
    let answer = fixture.api.try_send(Method::GET, "/api/agents", &[], None).await;
    answer.expect("reach the server").expect(200);

    let chosen = format!("mst_live_{}", "k".repeat(40));
    let other = Fixture::with_first_key(ServerOptions::default(), &chosen).await;
    other.api.get("/api/agents").await.expect(200);
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(done.expect("run cp").success());
}

#[tokio::test]
async fn invalid_bootstrap_key_is_refused_with_a_reason() {
    let test_dir = TestDir::new();
    let options = ServerOptions::default().with("MUSTER_BOOTSTRAP_KEY", "mst_live_short");
    let mut server = Server::unstarted(&test_dir, Database::Sqlite, options).spawn();
    let status = server.ended().await;
    assert!(!status.success());
    assert!(server.log().contains("MUSTER_BOOTSTRAP_KEY"), "{}", server.log());
}
