//! Who may follow live output, and how many may.

use muster_tests::{
    AgentOptions, Api, Fixture, JsonFields as _, LiveStream, Script, ServerOptions, eventually,
};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpSocket;

/// Live streams of one key.
const MAX_OF_KEY: usize = 64;

fn path(id: &str) -> String {
    format!("/api/executions/{id}/output/live")
}

async fn open(api: &Api, id: &str, last_event_id: &str) -> LiveStream {
    LiveStream::open(api, &path(id), last_event_id).await.expect("a live stream")
}

/// An agent with only this script, and a run of it.
async fn run(fixture: &Fixture, script: Script, name: &str) -> (muster_tests::Agent, String) {
    let (agent, id) = fixture.agent(AgentOptions::with_scripts([script])).await;
    (agent, fixture.api.execute(&id, name, json!({})).await)
}

async fn cancelled(fixture: &Fixture, id: &str) {
    fixture.api.post(&format!("/api/commands/{id}/cancel"), json!({})).await.expect(202);
    fixture.api.finished(id).await;
}

#[tokio::test]
async fn live_stream_ends_when_its_key_is_deleted() {
    let fixture = Fixture::on_sqlite().await;
    let script = Script::new("sleep", "echo begun; exec sleep 600");
    let (_agent, id) = run(&fixture, script, "sleep").await;
    let soon = chrono::Utc::now() + chrono::Duration::seconds(4);
    let body = json!({"name": "viewer", "role": "member"});
    let expiring = json!({"name": "viewer", "role": "member", "expires_at": soon.to_rfc3339()});
    let mut views = Vec::new();
    for body in [body, expiring] {
        let key = fixture.api.post("/api/keys", body).await.expect(201);
        let api = fixture.api.with_key(key.text("key"));
        let mut stream = open(&api, &id, "").await;
        stream.expect("output").await;
        views.push((key.id().to_owned(), stream));
    }
    let mut owners = open(&fixture.api, &id, "").await;
    owners.expect("output").await;
    fixture.api.delete(&format!("/api/keys/{}", views[0].0)).await.expect(200);
    for (_, stream) in &mut views {
        assert_eq!(stream.next().await, None);
    }
    // The streams of another key do not end.
    cancelled(&fixture, &id).await;
    assert_eq!(owners.expect("result").await.data["state"], "cancelled");
}

#[tokio::test]
async fn streams_beyond_the_limit_of_a_key_are_refused_with_retry_after() {
    let fixture = Fixture::on_sqlite().await;
    let script = Script::new("sleep", "exec sleep 600");
    let (_agent, id) = run(&fixture, script, "sleep").await;
    let mut streams = Vec::new();
    let refused = loop {
        match LiveStream::open(&fixture.api, &path(&id), "").await {
            Ok(stream) => streams.push(stream),
            Err(refused) => break refused,
        }
        assert!(streams.len() <= 1_000, "nothing bounds them");
    };
    assert_eq!(streams.len(), MAX_OF_KEY);
    assert_eq!(refused.header("retry-after"), "5");
    refused.expect_problem(429, "too_many_streams");
    let other = fixture.api.post("/api/keys", json!({"name": "b", "role": "member"})).await;
    let other = fixture.api.with_key(other.expect(201).text("key"));
    open(&other, &id, "").await;
    streams.pop();
    eventually("the place of the one that left is free", async || {
        LiveStream::open(&fixture.api, &path(&id), "").await.ok()
    })
    .await;
    cancelled(&fixture, &id).await;
}

#[tokio::test]
async fn viewer_that_reads_nothing_is_disconnected() {
    let options = ServerOptions::default().with("MUSTER_ANSWER_TIMEOUT_MS", 500);
    let fixture = Fixture::with(options).await;
    let script = Script::new("flood", "yes 'a line of the flood' | head -c 12000000");
    let (_agent, id) = run(&fixture, script, "flood").await;
    fixture.api.finished(&id).await;
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("a small buffer");
    let address = fixture.server.address().parse().expect("an address");
    let mut stalled = socket.connect(address).await.expect("reach the server");
    let (path, key) = (path(&id), fixture.api.key());
    let request = format!("GET {path} HTTP/1.1\r\nhost: m\r\nauthorization: Bearer {key}\r\n\r\n");
    let streams = async |count: usize| {
        let open = (0..count).map(|_| LiveStream::open(&fixture.api, "/api/events", ""));
        futures_util::future::try_join_all(open).await
    };
    let others = streams(MAX_OF_KEY - 1).await.expect("all but one");
    stalled.write_all(request.as_bytes()).await.expect("ask");
    // Peeked at and not read: this stalled viewer has the last slot.
    let mut answer = [0; 12];
    stalled.peek(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200");
    eventually("it has lost its place", async || streams(1).await.ok()).await;
    drop((others, stalled));
}

#[tokio::test]
async fn invalid_live_requests_are_refused_and_streams_disable_proxy_buffering() {
    let fixture = Fixture::on_sqlite().await;
    let script = Script::new("hello", "echo hello");
    let (_agent, id) = run(&fixture, script, "hello").await;
    let nobody = uuid::Uuid::now_v7().to_string();
    let refused = async |path: &str, last_event_id: &str| {
        LiveStream::open(&fixture.api, path, last_event_id).await.expect_err("a refusal")
    };
    refused(&path(&nobody), "").await.expect_problem(404, "not_found");
    refused(&path(&id), "x").await.expect_problem(400, "invalid_query");
    refused(&path(&id), "18446744073709551615").await.expect_problem(400, "invalid_query");
    refused(&format!("{}?stream=both", path(&id)), "").await.expect_problem(400, "invalid_query");
    let reader = json!({"name": "r", "role": "member", "scopes": ["agents:read"]});
    let reader = fixture.api.post("/api/keys", reader).await.expect(201);
    let reader = fixture.api.with_key(reader.text("key"));
    let missing = LiveStream::open(&reader, &path(&id), "").await.expect_err("a refusal");
    missing.expect_problem(403, "missing_scope");
    let stream = open(&fixture.api, &id, "").await;
    assert_eq!(stream.header("content-type"), "text/event-stream");
    assert_eq!(stream.header("cache-control"), "no-store");
    assert_eq!(stream.header("x-accel-buffering"), "no");
}

#[tokio::test]
async fn output_can_be_downloaded_as_a_named_file() {
    let fixture = Fixture::on_sqlite().await;
    let script = Script::new("hello.web", "echo hello; echo oh >&2");
    let (_agent, id) = run(&fixture, script, "hello.web").await;
    fixture.api.finished(&id).await;
    let path = format!("/api/executions/{id}/output");
    let whole = fixture.api.get(&path).await;
    assert_eq!((whole.bytes.len(), whole.header("content-disposition")), (9, ""));
    let kept = fixture.api.get(&format!("{path}?stream=stdout&download=1")).await;
    assert_eq!(kept.bytes, b"hello\n");
    let name = format!("attachment; filename=\"hello.web-{id}.stdout.log\"");
    assert_eq!(kept.header("content-disposition"), name);
    let head =
        fixture.api.try_send(reqwest::Method::HEAD, &path, &[], None).await.expect("reached");
    assert_eq!((head.status, head.header("content-length"), head.bytes.len()), (200, "9", 0));
    let range = [("range", "bytes=2-3")];
    let part = fixture.api.try_send(reqwest::Method::GET, &path, &range, None).await.expect("part");
    assert_eq!((part.status, part.header("content-range")), (206, "bytes 2-3/9"));
    let nobody = format!("/api/executions/{}/output", uuid::Uuid::now_v7());
    fixture.api.get(&nobody).await.expect_problem(404, "not_found");
}
