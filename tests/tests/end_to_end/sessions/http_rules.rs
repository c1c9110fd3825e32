//! What applies to every request: its host, its date, and the end of the server.

use std::time::Duration;

use muster_tests::{Fixture, JsonFields as _, ServerOptions, fake_time, pass};
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

async fn answer_to(fixture: &Fixture, head: &str) -> String {
    let mut stream = TcpStream::connect(fixture.server.address()).await.expect("reach the server");
    stream.write_all(head.as_bytes()).await.expect("send");
    let mut bytes = Vec::new();
    while !bytes.windows(4).any(|window| window == b"\r\n\r\n") {
        assert!(stream.read_buf(&mut bytes).await.expect("an answer") > 0, "no answer");
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn request_without_exactly_one_host_is_refused() {
    let fixture = Fixture::on_sqlite().await;
    for (head, status) in [
        ("GET /healthz HTTP/1.1\r\nhost: one\r\n\r\n", "200"),
        ("GET /healthz HTTP/1.0\r\n\r\n", "200"),
        ("GET /healthz HTTP/1.1\r\n\r\n", "400"),
        ("GET /healthz HTTP/1.1\r\nhost: one\r\nhost: two\r\n\r\n", "400"),
    ] {
        let answer = answer_to(&fixture, head).await;
        assert_eq!(&answer[9..12], status, "{head}: {answer}");
    }
}

#[tokio::test]
async fn server_that_stops_answers_requests_that_wait() {
    let mut fixture = Fixture::on_sqlite().await;
    let (key_id, key) = fixture.api.agent_key(json!({"max_agents": 1})).await;
    let body = json!({"command": "execute", "data": {"script": "x"}});
    let basic = fixture.api.with_key(&key);
    let heartbeat = br#"{"status":{}}"#.to_vec();
    let sent = basic.try_send(Method::POST, "/api/agents/heartbeat", &[], Some(heartbeat)).await;
    assert_eq!(sent.expect("an answer").status, 200);
    let agent = fixture.online(&key_id).await.id().to_owned();
    let made = fixture.api.post(&format!("/api/agents/{agent}/command"), body).await.expect(202);
    // Taken by a poll, so that nothing waits for the next one, and the command stays open.
    let taken = basic.get("/api/agents/poll?wait_ms=30000").await.expect(200);
    assert_eq!(taken["commands"].as_array().map(Vec::len), Some(1), "{taken}");
    let waiting = format!("/api/commands/{}?wait_ms=60000", made.id());
    let (api, poller) = (fixture.api.clone(), basic.clone());
    let command = tokio::spawn(async move { api.get(&waiting).await });
    let poll = tokio::spawn(async move { poller.get("/api/agents/poll?wait_ms=30000").await });
    // Time for both to reach the server; none of them is answered before it stops.
    pass(Duration::from_millis(500)).await;
    fixture.server.process().signal(Signal::SIGTERM);
    for answer in [command, poll] {
        let answer = answer.await.expect("answered");
        assert_eq!(answer.status, 503, "{}", answer.json());
        assert!(!answer.header("retry-after").is_empty());
    }
    fixture.server.process().ended().await;
}

#[tokio::test]
async fn date_of_answers_follows_the_clock_in_both_directions() {
    let test_dir = muster_tests::TestDir::new();
    let clock = test_dir.path().join("clock");
    std::fs::write(&clock, "+0").expect("write the offset");
    let (preload, library) = fake_time("+0").into_iter().next().expect("a library");
    let options = ServerOptions::default()
        .with(preload, library)
        .with("FAKETIME_TIMESTAMP_FILE", clock.display())
        .with("FAKETIME_NO_CACHE", 1)
        .with("FAKETIME_DONT_FAKE_MONOTONIC", 1);
    let database = muster_tests::Database::Sqlite;
    let fixture = Fixture::on(test_dir, database, options).await;
    let offset_hours = async || {
        let answer = fixture.api.get("/healthz").await;
        let date = chrono::DateTime::parse_from_rfc2822(answer.header("date")).expect("a date");
        let offset = date.signed_duration_since(chrono::Utc::now());
        (offset.num_minutes() as f64 / 60.0).round() as i64
    };
    for (offset, hours) in [("+0", 0), ("+5h", 5), ("-3h", -3), ("+1h", 1)] {
        std::fs::write(&clock, offset).expect("write the offset");
        assert_eq!(offset_hours().await, hours, "{offset}");
    }
}
