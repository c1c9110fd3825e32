//! The server's storage: it goes away and returns, is restored from a backup, is used by one.

use std::process::Command;

use muster_tests::{
    AgentOptions, Database, PostgresCluster, Script, Server, ServerOptions, Site, World,
    eventually, on_both_databases,
};
use reqwest::Method;
use serde_json::json;

on_both_databases!(
    a_restarted_server_knows_everything_it_knew,
    a_second_server_on_the_same_storage_is_refused,
    a_stopped_server_lets_agents_go_and_finds_them_again,
);

async fn a_restarted_server_knows_everything_it_knew(mut world: World) {
    let options = AgentOptions::with_scripts([Script::new("hi", "echo hi")]);
    let (_agent, agent) = world.agent(options).await;
    let id = world.api.execute(&agent, "hi", json!({})).await;
    let before = world.api.finished(&id).await;
    world.server.kill_9();
    world.server.resume();
    world.server.ready().await;
    assert_eq!(world.api.command(&id).await, before);
    assert_eq!(world.api.output(&id).await, b"hi\n");
    world.reached_over(&agent, "websocket").await;
}

async fn a_second_server_on_the_same_storage_is_refused(world: World) {
    let mut second = world.server.spawn_elsewhere();
    let status = second.ended().await;
    assert!(!status.success());
    world.api.get("/readyz").await.expect(200);
}

async fn a_stopped_server_lets_agents_go_and_finds_them_again(mut world: World) {
    let (_agent, agent) = world.agent(AgentOptions::named("agent")).await;
    world.server.stop();
    world.server.resume();
    world.reached_over(&agent, "websocket").await;
}

#[tokio::test]
async fn a_database_that_goes_away_and_returns_costs_nothing_that_was_promised() {
    let mut world = World::on_cluster().await;
    let script = Script::counting("long", 4_000, 50, "0.05");
    let (_agent, agent) = world.agent(AgentOptions::with_scripts([script])).await;
    let id = world.api.execute(&agent, "long", json!({})).await;
    world.api.output_reaches(&id, 1).await;

    world.server.cluster().stop();
    let path = format!("/api/agents/{agent}/command");
    let body = json!({"command": "execute", "data": {"script": "long"}});
    let refused = world.api.post(&path, body).await;
    refused.expect_problem(503, "storage_unavailable");
    eventually("the server says that it is not ready", async || {
        (world.api.get("/readyz").await.status == 503).then_some(())
    })
    .await;
    // It is alive, only not ready.
    world.api.get("/healthz").await.expect(200);

    world.server.cluster().resume();
    world.server.ready().await;
    let command = world.api.finished(&id).await;
    assert_eq!(command["state"], "succeeded", "{command}");
    assert!(world.api.output(&id).await == Script::counted(4_000), "the output differs");
    let listed = world.api.get("/api/commands").await.expect(200);
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "a refused command was kept");
}

#[tokio::test]
async fn a_server_without_its_database_says_so_and_ends() {
    let site = Site::new();
    let mut postgres = PostgresCluster::start(&site);
    postgres.stop();
    let options = ServerOptions::default();
    let mut server = Server::unstarted(&site, Database::Cluster(postgres), options).spawn();
    let status = server.ended().await;
    assert!(!status.success());
    let log = server.log();
    assert!(log.contains("database") || log.contains("connect"), "{log}");
    assert!(!log.contains("panicked"), "{log}");
}

#[tokio::test]
async fn a_server_restored_from_an_older_backup_says_so_and_works_on() {
    // The agent tidies its folder with each heartbeat.
    let often = ServerOptions::default().with("MUSTER_HEARTBEAT_INTERVAL_MS", 500);
    let mut world = World::with(often).await;
    let scripts = [Script::counting("long", 3_000, 50, "0.05"), Script::new("hi", "echo hi")];
    let (agent, id) = world.agent(AgentOptions::with_scripts(scripts)).await;
    let kept = world.api.execute(&id, "hi", json!({})).await;
    world.api.finished(&kept).await;

    world.server.stop();
    let backup = world.site.path().join("backup");
    copy(world.server.data_dir(), &backup);
    world.server.resume();
    world.reached_over(&id, "websocket").await;
    let forgotten = world.api.execute(&id, "long", json!({})).await;
    world.api.output_reaches(&forgotten, 1).await;

    world.server.kill_9();
    std::fs::remove_dir_all(world.server.data_dir()).expect("lose the data");
    copy(&backup, world.server.data_dir());
    world.server.resume();
    world.server.ready().await;
    world.reached_over(&id, "websocket").await;
    assert_eq!(world.api.command(&kept).await["state"], "succeeded");
    let path = format!("/api/commands/{forgotten}");
    world.api.get(&path).await.expect_problem(404, "not_found");
    eventually("the restore is in the agent's events", async || {
        let events = world.api.get(&format!("/api/agents/{id}/events")).await.expect(200);
        events.to_string().contains("server_restored").then_some(())
    })
    .await;
    // The agent keeps what nobody asks for no longer, and does new work.
    eventually("the forgotten job ends", async || agent.shim_ids().is_empty().then_some(())).await;
    let after = world.api.execute(&id, "hi", json!({})).await;
    assert_eq!(world.api.finished(&after).await["state"], "succeeded");
    eventually("the agent was told that its report is not wanted", async || {
        let jobs = std::fs::read_dir(agent.state_dir().join("executions")).ok()?;
        (jobs.count() == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_first_key_is_written_once_for_its_owner_alone_or_taken_from_the_environment() {
    let mut world = World::on_sqlite().await;
    let file = world.server.data_dir().join("bootstrap_key");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(&file).expect("the file").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    let key = std::fs::read_to_string(&file).expect("the key");
    assert!(!world.server.log().contains(key.trim()), "the key is in the log");
    world.server.stop();
    world.server.resume();
    assert_eq!(std::fs::read_to_string(&file).expect("the key"), key);
    let answer = world.api.try_send(Method::GET, "/api/agents", &[], None).await;
    answer.expect("reach the server").expect(200);

    let chosen = format!("mst_live_{}", "k".repeat(40));
    let other = World::with_first_key(ServerOptions::default(), &chosen).await;
    other.api.get("/api/agents").await.expect(200);
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(done.expect("run cp").success());
}

#[tokio::test]
async fn a_first_key_that_is_no_key_is_refused_in_a_sentence() {
    let site = Site::new();
    let options = ServerOptions::default().with("MUSTER_BOOTSTRAP_KEY", "mst_live_short");
    let mut server = Server::unstarted(&site, Database::Sqlite, options).spawn();
    let status = server.ended().await;
    assert!(!status.success());
    assert!(server.log().contains("MUSTER_BOOTSTRAP_KEY"), "{}", server.log());
}
