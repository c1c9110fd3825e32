//! `muster-server health`: what a container's health check runs beside the server.

use std::path::Path;
use std::process::{Command, Output};

use muster_tests::{
    Authority, Database, PostgresCluster, Server, ServerOptions, Site, World, binary, eventually,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Asks as a health check does: with the data directory, and with a proxy that is none of its business.
fn ask(data_dir: &Path) -> Output {
    let mut health = Command::new(binary("muster-server"));
    health.arg("health").env_clear().env("MUSTER_DATA_DIR", data_dir);
    health.env("http_proxy", "http://127.0.0.1:1").env("https_proxy", "http://127.0.0.1:1");
    health.output().expect("run muster-server")
}

/// The one line that says why not.
fn complaint(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

#[tokio::test]
async fn a_server_that_serves_is_healthy_and_one_that_is_gone_is_not() {
    let mut world = World::on_sqlite().await;
    let data_dir = world.server.data_dir().to_owned();
    let asked = ask(&data_dir);
    assert!(asked.status.success() && asked.stderr.is_empty(), "{asked:?}");

    let address = world.server.address();
    world.server.kill_9();
    let said = complaint(&ask(&data_dir));
    assert!(said.contains(&address) && said.contains("is it running?"), "{said}");
    let said = complaint(&ask(&data_dir.join("elsewhere")));
    assert!(said.contains("is the server running?"), "{said}");
}

#[tokio::test]
async fn a_server_that_speaks_tls_is_asked_over_tls_whatever_its_certificate_is_for() {
    let site = Site::new();
    let authority = Authority::new(&site);
    let options = ServerOptions::secured(&authority);
    let world = World::on(site, Database::Sqlite, options).await;
    let asked = ask(world.server.data_dir());
    assert!(asked.status.success(), "{asked:?}");
}

#[tokio::test]
async fn a_server_without_its_database_is_not_healthy_and_says_so() {
    let mut world = World::on_cluster().await;
    let data_dir = world.server.data_dir().to_owned();
    assert!(ask(&data_dir).status.success());
    world.server.cluster().stop();
    let said = complaint(&ask(&data_dir));
    assert!(said.contains("503"), "{said}");
    world.server.cluster().resume();
    eventually("it is healthy again", async || ask(&data_dir).status.success().then_some(())).await;
}

#[tokio::test]
async fn whatever_else_answers_at_the_address_is_not_taken_for_a_server() {
    let site = Site::new();
    let stranger = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let url = format!("http://{}\n", stranger.local_addr().expect("an address"));
    std::fs::write(site.path().join("server_url"), url).expect("written");
    let folder = site.path().to_owned();
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
async fn the_password_of_postgresql_comes_from_a_file() {
    let site = Site::new();
    let mut postgres = PostgresCluster::start(&site);
    postgres.require_password("p&ss w=rd/%");
    let file = site.path().join("password");
    std::fs::write(&file, "p&ss w=rd/%\n").expect("written");
    let options = ServerOptions::default().with("MUSTER_DATABASE_PASSWORD_FILE", file.display());
    let mut server = Server::start(&site, Database::Cluster(postgres), options);
    server.ready().await;
    server.stop();

    std::fs::write(&file, "another").expect("written");
    let mut process = server.spawn();
    assert!(!process.ended().await.success());
    let log = process.log();
    assert!(log.contains("password authentication failed") && !log.contains("another"), "{log}");
}
