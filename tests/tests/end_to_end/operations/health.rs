//! `muster-server health`: the health check that a container runs beside the server.

use std::path::Path;
use std::process::{Command, Output};

use muster_tests::{
    Api, Authority, Database, Fixture, PostgresCluster, Server, ServerOptions, SmallDisk, TestDir,
    binary, eventually, eventually_shown,
};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Runs the health check with the data directory, and with a proxy that it must ignore.
fn ask(data_dir: &Path) -> Output {
    let mut health = Command::new(binary("muster-server"));
    health.arg("health").env_clear().env("MUSTER_DATA_DIR", data_dir);
    health.env("http_proxy", "http://127.0.0.1:1").env("https_proxy", "http://127.0.0.1:1");
    health.output().expect("run muster-server")
}

/// The line that explains why the server is not healthy.
fn complaint(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

#[tokio::test]
async fn running_server_is_healthy_and_a_stopped_one_is_not() {
    let mut fixture = Fixture::on_sqlite().await;
    let data_dir = fixture.server.data_dir().to_owned();
    let asked = ask(&data_dir);
    assert!(asked.status.success() && asked.stderr.is_empty(), "{asked:?}");

    let address = fixture.server.address();
    fixture.server.kill_9();
    let said = complaint(&ask(&data_dir));
    assert!(said.contains(&address) && said.contains("is it running?"), "{said}");
    let said = complaint(&ask(&data_dir.join("elsewhere")));
    assert!(said.contains("is the server running?"), "{said}");
}

#[tokio::test]
async fn health_check_uses_tls_and_ignores_the_name_of_the_certificate() {
    let test_dir = TestDir::new();
    let authority = Authority::new(&test_dir);
    let options = ServerOptions::secured(&authority);
    let fixture = Fixture::on(test_dir, Database::Sqlite, options).await;
    let asked = ask(fixture.server.data_dir());
    assert!(asked.status.success(), "{asked:?}");
}

#[tokio::test]
async fn server_without_its_database_is_unhealthy_with_a_reason() {
    let mut fixture = Fixture::on_cluster().await;
    let data_dir = fixture.server.data_dir().to_owned();
    assert!(ask(&data_dir).status.success());
    fixture.server.cluster().stop();
    // An answer is valid for a second.
    becomes(&fixture.api, 503).await;
    let said = complaint(&ask(&data_dir));
    assert!(said.contains("503"), "{said}");
    fixture.server.cluster().resume();
    eventually("it is healthy again", async || ask(&data_dir).status.success().then_some(())).await;
}

#[tokio::test]
async fn other_program_on_the_port_is_not_mistaken_for_a_server() {
    let test_dir = TestDir::new();
    let stranger = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let url = format!("http://{}\n", stranger.local_addr().expect("an address"));
    std::fs::write(test_dir.path().join("server_url"), url).expect("written");
    let folder = test_dir.path().to_owned();
    let asking = tokio::task::spawn_blocking(move || ask(&folder));
    let (mut stream, _) = stranger.accept().await.expect("it asks");
    let mut request = [0; 1024];
    assert_ne!(stream.read(&mut request).await.expect("asked"), 0);
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
    stream.write_all(answer).await.expect("answered");
    let said = complaint(&asking.await.expect("asked"));
    assert!(said.contains("is not a Muster server"), "{said}");
}

#[tokio::test]
async fn password_of_postgresql_is_read_from_a_file() {
    let test_dir = TestDir::new();
    let mut postgres = PostgresCluster::start(&test_dir);
    postgres.require_password("p&ss w=rd/%");
    let file = test_dir.path().join("password");
    std::fs::write(&file, "p&ss w=rd/%\n").expect("written");
    let options = ServerOptions::default().with("MUSTER_DATABASE_PASSWORD_FILE", file.display());
    let mut server = Server::start(&test_dir, Database::Cluster(postgres), options);
    server.ready().await;
    server.stop();

    std::fs::write(&file, "Xq7-wrong").expect("written");
    let mut process = server.spawn();
    assert!(!process.ended().await.success());
    let log = process.log();
    assert!(log.contains("password authentication failed") && !log.contains("Xq7-wrong"), "{log}");
}

#[tokio::test]
async fn server_on_a_read_only_postgresql_is_not_ready_until_new_connections_take_writes() {
    let fixture = Fixture::on_postgres().await;
    let Database::Postgres(database) = &fixture.server.database else { panic!("not PostgreSQL") };
    let new_key = || fixture.api.post("/api/agents/keys", json!({"name": "new"}));
    new_key().await.expect(201);
    // As after a failover: the connections break, and new ones lead to a server that only reads.
    database.set_read_only(true);
    for _ in 0..3 {
        new_key().await.expect_problem(503, "storage_unavailable");
    }
    becomes(&fixture.api, 503).await;
    new_key().await.expect_problem(503, "storage_unavailable");
    // The server's connections stay read-only for their lifetime, so it must open others.
    database.set_read_only(false);
    becomes(&fixture.api, 200).await;
    new_key().await.expect(201);
}

#[tokio::test]
async fn write_after_postgresql_ended_all_connections_succeeds_at_once() {
    let fixture = Fixture::on_postgres().await;
    let Database::Postgres(database) = &fixture.server.database else { panic!("not PostgreSQL") };
    for round in 0..3 {
        let name = format!("new-{round}");
        let new_key = || fixture.api.post("/api/agents/keys", json!({"name": name}));
        new_key().await.expect(201);
        database.end_connections();
        new_key().await.expect(201);
    }
}

async fn becomes(api: &Api, status: u16) {
    eventually_shown(&format!("/readyz answers {status}"), async || {
        let answer = api.get("/readyz").await;
        if answer.status == status { Ok(()) } else { Err(answer.json()) }
    })
    .await;
}

#[tokio::test]
async fn server_with_a_full_disk_is_not_ready_until_there_is_space() {
    let test_dir = TestDir::new();
    let disk = SmallDisk::over(&test_dir.folder("server"), 64);
    let fixture = Fixture::on(test_dir, Database::Sqlite, ServerOptions::default()).await;
    disk.fill();
    becomes(&fixture.api, 503).await;
    let said = complaint(&ask(fixture.server.data_dir()));
    assert!(said.contains("503"), "{said}");
    fixture.api.get("/readyz").await.expect_problem(503, "storage_unavailable");
    fixture.api.get("/healthz").await.expect(200);
    disk.clear();
    becomes(&fixture.api, 200).await;
    let log = fixture.server.log();
    assert_eq!(log.matches("the server is not ready").count(), 1, "logged once: {log}");
    drop(fixture);
}
