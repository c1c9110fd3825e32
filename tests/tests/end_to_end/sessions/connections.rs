//! Connections that send too little, and too many connections.

use std::process::Command;
use std::time::Duration;

use muster_tests::{
    Authority, Closed, Database, FakeAgent, Fixture, Server, ServerOptions, TestDir, eventually,
};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: muster\r\n\r\n";
/// Interval between two bytes of a slow client.
const DRIP: Duration = Duration::from_millis(20);

/// Long enough for an honest client on a busy machine, and short enough for a test.
fn strict(options: ServerOptions) -> ServerOptions {
    options.with("MUSTER_HANDSHAKE_TIMEOUT_MS", 1_500).with("MUSTER_REQUEST_HEAD_TIMEOUT_MS", 1_500)
}

async fn reach(fixture: &Fixture) -> TcpStream {
    TcpStream::connect(fixture.server.address()).await.expect("reach the server")
}

/// A complete head, and a body that never ends.
fn half_a_body(key: &str) -> Vec<u8> {
    let head = "POST /api/agents/keys HTTP/1.1\r\nhost: muster\r\ncontent-type: application/json";
    format!("{head}\r\nauthorization: Bearer {key}\r\ncontent-length: 99\r\n\r\n{{").into()
}

/// Sends this and nothing more, and waits until the server closes the connection.
async fn closed_after(mut stream: impl AsyncRead + AsyncWrite + Unpin, said: &[u8]) {
    stream.write_all(said).await.expect("send");
    stream.flush().await.expect("send");
    // Any end counts.
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

/// Sends an endless head, a byte at a time, until the server closes the connection.
async fn closed_while_dripping(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let endless = REQUEST[..REQUEST.len() - 2].iter().chain(std::iter::repeat(&b'a'));
    let mut interval = tokio::time::interval(DRIP);
    for byte in endless {
        interval.tick().await;
        let sent = async {
            stream.write_all(&[*byte]).await?;
            stream.flush().await
        };
        if sent.await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn plain_connection_without_a_complete_request_is_closed() {
    let fixture = Fixture::with(strict(ServerOptions::default())).await;
    let half = half_a_body(fixture.api.key());
    tokio::join!(
        closed_after(reach(&fixture).await, b""),
        closed_after(reach(&fixture).await, b"G"),
        closed_after(reach(&fixture).await, &REQUEST[..REQUEST.len() - 1]),
        // HTTP/2 that stops in its preface, and right after it.
        closed_after(reach(&fixture).await, b"PRI * HT"),
        closed_after(reach(&fixture).await, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        closed_while_dripping(reach(&fixture).await),
        closed_after(reach(&fixture).await, &half),
    );
    fixture.api.get("/api/agents").await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_connection_without_a_complete_request_is_closed() {
    let test_dir = TestDir::new();
    let authority = Authority::new(&test_dir);
    let options = strict(ServerOptions::secured(&authority));
    let fixture = Fixture::on(test_dir, Database::Sqlite, options).await;
    let address = fixture.server.address();
    tokio::join!(
        closed_after(reach(&fixture).await, b""),
        // The head of a record that never arrives.
        closed_after(reach(&fixture).await, &[22, 3, 1, 2, 0, 1, 0]),
        closed_after(authority.connect(&address).await, b""),
        closed_after(authority.connect(&address).await, b"G"),
        closed_while_dripping(authority.connect(&address).await),
    );
    fixture.api.get("/api/agents").await.expect(200);
}

#[tokio::test]
async fn connection_is_kept_open_after_the_first_request() {
    let fixture = Fixture::with(strict(ServerOptions::default())).await;
    let (mut asked, silent) = (reach(&fixture).await, reach(&fixture).await);
    let mut answer = [0; 12];
    asked.write_all(REQUEST).await.expect("ask");
    asked.read_exact(&mut answer).await.expect("hear");
    // Opened at the same time and closed by now, so the time of the other one has passed as well.
    closed_after(silent, b"").await;
    asked.write_all(REQUEST).await.expect("ask again");
    let mut rest = Vec::new();
    eventually("the second answer", async || {
        asked.read_buf(&mut rest).await.expect("hear again");
        String::from_utf8_lossy(&rest).contains("HTTP/1.1 200").then_some(())
    })
    .await;
}

#[tokio::test]
async fn client_that_does_not_read_its_response_is_disconnected() {
    let fixture =
        Fixture::with(ServerOptions::default().with("MUSTER_ANSWER_TIMEOUT_MS", 500)).await;
    let mut stream = reach(&fixture).await;
    // Answers accumulate until neither side takes more data; then the server closes the connection.
    let request = b"GET /openapi.json HTTP/1.1\r\nhost: muster\r\n\r\n";
    while stream.write_all(request).await.is_ok() {}
    fixture.api.get("/api/agents").await.expect(200);
}

#[tokio::test]
async fn oversized_request_head_is_refused() {
    let fixture = Fixture::on_sqlite().await;
    let mut stream = reach(&fixture).await;
    let head = format!("GET /healthz HTTP/1.1\r\nhost: {}", "m".repeat(64 * 1024));
    stream.write_all(head.as_bytes()).await.expect("ask");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.expect("hear");
    assert_eq!(&answer, b"HTTP/1.1 431");
}

#[tokio::test]
async fn server_out_of_file_descriptors_reports_it_and_recovers() {
    let mut fixture = Fixture::on_sqlite().await;
    let server = fixture.server.process().id();
    let may_open = |files: &str| {
        let limit = format!("--nofile={files}:");
        let set = Command::new("prlimit").args(["--pid", &server.to_string(), &limit]).status();
        assert!(set.expect("start prlimit").success());
    };
    may_open("1");
    let mut stream = reach(&fixture).await;
    eventually("the log says so", async || {
        fixture.server.log().contains("failed to accept a connection").then_some(())
    })
    .await;
    may_open("1000");
    stream.write_all(REQUEST).await.expect("ask");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.expect("hear");
    assert_eq!(&answer, b"HTTP/1.1 200");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_until_one_ends() {
    let test_dir = TestDir::new();
    let options = ServerOptions::default().with("MUSTER_MAX_CONNECTIONS", 2);
    let server = Server::start(&test_dir, Database::Sqlite, options);
    let reach = async || TcpStream::connect(server.address()).await.expect("reach the server");
    let (mut first, mut second) = (reach().await, reach().await);
    let mut answer = [0; 12];
    for stream in [&mut first, &mut second] {
        stream.write_all(REQUEST).await.expect("ask");
        stream.read_exact(&mut answer).await.expect("hear");
    }
    let mut third = reach().await;
    third.write_all(REQUEST).await.expect("ask");
    eventually("the log says that there are as many as may be", async || {
        server.log().contains("the limit of connections is reached").then_some(())
    })
    .await;
    drop(first);
    third.read_exact(&mut answer).await.expect("hear");
    assert_eq!(&answer, b"HTTP/1.1 200");
}

#[tokio::test]
async fn sighup_does_not_stop_a_server_without_a_certificate() {
    let mut fixture = Fixture::on_sqlite().await;
    fixture.server.process().signal(Signal::SIGHUP);
    eventually("the server has heard it", async || {
        fixture.server.log().contains("nothing to read again").then_some(())
    })
    .await;
    fixture.api.get("/api/agents").await.expect(200);
}

#[tokio::test]
async fn session_of_a_silent_agent_ends_with_heartbeats_missed() {
    let options = ServerOptions::default().with("MUSTER_HEARTBEAT_INTERVAL_MS", 300);
    let fixture = Fixture::on(TestDir::new(), Database::Sqlite, options).await;
    let (_, key) = fixture.api.agent_key(json!({})).await;
    let address = fixture.server.address();
    let (mut agent, _) = FakeAgent::registered_full(&address, &key, json!({})).await;
    assert_eq!(agent.closed().await, Closed::new(1008, "heartbeats_missed"));
}
