//! Who may look on live, and how many.

use muster_tests::{AgentOptions, Api, LiveStream, Script, ServerOptions, World, eventually};
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

/// An agent with this one script, and a run of it.
async fn run(world: &World, script: Script, name: &str) -> (muster_tests::Agent, String) {
    let (agent, id) = world.agent(AgentOptions::with_scripts([script])).await;
    (agent, world.api.execute(&id, name, json!({})).await)
}

async fn cancelled(world: &World, id: &str) {
    world.api.post(&format!("/api/commands/{id}/cancel"), json!({})).await.expect(202);
    world.api.finished(id).await;
}

#[tokio::test]
async fn a_view_ends_with_the_key_that_it_was_opened_with() {
    let world = World::on_sqlite().await;
    let script = Script::new("sleep", "echo begun; exec sleep 600");
    let (_agent, id) = run(&world, script, "sleep").await;
    let soon = chrono::Utc::now() + chrono::Duration::seconds(4);
    let body = json!({"name": "viewer", "role": "member"});
    let expiring = json!({"name": "viewer", "role": "member", "expires_at": soon.to_rfc3339()});
    let mut views = Vec::new();
    for body in [body, expiring] {
        let key = world.api.post("/api/keys", body).await.expect(201);
        let api = world.api.with_key(key["key"].as_str().expect("a secret"));
        let mut stream = open(&api, &id, "").await;
        stream.expect("output").await;
        views.push((key["id"].as_str().expect("an id").to_owned(), stream));
    }
    let mut owners = open(&world.api, &id, "").await;
    owners.expect("output").await;
    world.api.delete(&format!("/api/keys/{}", views[0].0)).await.expect(200);
    for (_, stream) in &mut views {
        assert_eq!(stream.next().await, None);
    }
    // Another key's end is none of theirs who go on.
    cancelled(&world, &id).await;
    assert_eq!(owners.expect("result").await.data["state"], "cancelled");
}

#[tokio::test]
async fn more_streams_than_a_key_may_have_are_told_to_come_back() {
    let world = World::on_sqlite().await;
    let script = Script::new("sleep", "exec sleep 600");
    let (_agent, id) = run(&world, script, "sleep").await;
    let mut streams = Vec::new();
    let refused = loop {
        match LiveStream::open(&world.api, &path(&id), "").await {
            Ok(stream) => streams.push(stream),
            Err(refused) => break refused,
        }
        assert!(streams.len() <= 1_000, "nothing bounds them");
    };
    assert_eq!(streams.len(), MAX_OF_KEY);
    assert_eq!(refused.header("retry-after"), "5");
    refused.expect_problem(429, "too_many_streams");
    let other = world.api.post("/api/keys", json!({"name": "b", "role": "member"})).await;
    let other = world.api.with_key(other.expect(201)["key"].as_str().expect("a secret"));
    open(&other, &id, "").await;
    streams.pop();
    eventually("the place of the one that left is free", async || {
        LiveStream::open(&world.api, &path(&id), "").await.ok()
    })
    .await;
    cancelled(&world, &id).await;
}

#[tokio::test]
async fn whoever_reads_nothing_loses_its_place() {
    let options = ServerOptions::default().with("MUSTER_ANSWER_TIMEOUT_MS", 500);
    let world = World::with(options).await;
    let script = Script::new("flood", "yes 'a line of the flood' | head -c 12000000");
    let (_agent, id) = run(&world, script, "flood").await;
    world.api.finished(&id).await;
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("a small buffer");
    let address = world.server.address().parse().expect("an address");
    let mut stalled = socket.connect(address).await.expect("reach the server");
    let (path, key) = (path(&id), world.api.key());
    let request = format!("GET {path} HTTP/1.1\r\nhost: m\r\nauthorization: Bearer {key}\r\n\r\n");
    let streams = async |count: usize| {
        let open = (0..count).map(|_| LiveStream::open(&world.api, "/api/events", ""));
        futures_util::future::try_join_all(open).await
    };
    let others = streams(MAX_OF_KEY - 1).await.expect("all but one");
    stalled.write_all(request.as_bytes()).await.expect("ask");
    // Looked at, not taken: it has the last place.
    let mut answer = [0; 12];
    stalled.peek(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200");
    eventually("it has lost its place", async || streams(1).await.ok()).await;
    drop((others, stalled));
}

#[tokio::test]
async fn what_can_not_be_shown_live_is_refused_and_what_can_passes_proxies() {
    let world = World::on_sqlite().await;
    let script = Script::new("hello", "echo hello");
    let (_agent, id) = run(&world, script, "hello").await;
    let nobody = uuid::Uuid::now_v7().to_string();
    let refused = async |path: &str, last_event_id: &str| {
        LiveStream::open(&world.api, path, last_event_id).await.expect_err("a refusal")
    };
    refused(&path(&nobody), "").await.expect_problem(404, "not_found");
    refused(&path(&id), "x").await.expect_problem(400, "invalid_query");
    refused(&path(&id), "18446744073709551615").await.expect_problem(400, "invalid_query");
    refused(&format!("{}?stream=both", path(&id)), "").await.expect_problem(400, "invalid_query");
    let reader = json!({"name": "r", "role": "member", "scopes": ["agents:read"]});
    let reader = world.api.post("/api/keys", reader).await.expect(201);
    let reader = world.api.with_key(reader["key"].as_str().expect("a secret"));
    let missing = LiveStream::open(&reader, &path(&id), "").await.expect_err("a refusal");
    missing.expect_problem(403, "missing_scope");
    let stream = open(&world.api, &id, "").await;
    assert_eq!(stream.header("content-type"), "text/event-stream");
    assert_eq!(stream.header("cache-control"), "no-store");
    assert_eq!(stream.header("x-accel-buffering"), "no");
}

#[tokio::test]
async fn output_can_be_kept_as_a_file_with_a_name_of_its_own() {
    let world = World::on_sqlite().await;
    let script = Script::new("hello.web", "echo hello; echo oh >&2");
    let (_agent, id) = run(&world, script, "hello.web").await;
    world.api.finished(&id).await;
    let path = format!("/api/executions/{id}/output");
    let whole = world.api.get(&path).await;
    assert_eq!((whole.bytes.len(), whole.header("content-disposition")), (9, ""));
    let kept = world.api.get(&format!("{path}?stream=stdout&download=1")).await;
    assert_eq!(kept.bytes, b"hello\n");
    let name = format!("attachment; filename=\"hello.web-{id}.stdout.log\"");
    assert_eq!(kept.header("content-disposition"), name);
    let head = world.api.try_send(reqwest::Method::HEAD, &path, &[], None).await.expect("reached");
    assert_eq!((head.status, head.header("content-length"), head.bytes.len()), (200, "9", 0));
    let range = [("range", "bytes=2-3")];
    let part = world.api.try_send(reqwest::Method::GET, &path, &range, None).await.expect("part");
    assert_eq!((part.status, part.header("content-range")), (206, "bytes 2-3/9"));
    let nobody = format!("/api/executions/{}/output", uuid::Uuid::now_v7());
    world.api.get(&nobody).await.expect_problem(404, "not_found");
}
