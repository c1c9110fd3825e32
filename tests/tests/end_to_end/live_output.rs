//! Output as it comes: every byte once, wherever the viewer was cut off, and the result after it.

use data_encoding::BASE64;
use muster_tests::{
    AgentOptions, Api, LiveEvent, LiveStream, Script, World, eventually, on_both_databases,
};
use serde_json::{Value, json};

on_both_databases!(
    viewers_that_are_cut_off_anywhere_see_every_byte_once,
    a_viewer_comes_back_to_a_server_that_was_killed,
    whoever_comes_after_the_end_gets_all_of_it_and_the_result,
);

const LINES: u32 = 1_500;

/// What a viewer has put together.
#[derive(Default)]
struct Seen {
    output: Vec<u8>,
    stdout: Vec<u8>,
    last_id: String,
    result: Option<Value>,
}

impl Seen {
    fn take(&mut self, event: LiveEvent) {
        assert!(self.result.is_none(), "{event:?} after the result");
        self.last_id = event.id.clone();
        if event.name == "result" {
            self.result = Some(event.data);
            return;
        }
        assert_eq!(event.name, "output");
        let bytes = bytes(&event.data);
        assert_eq!(event.data["offset_bytes"], self.output.len(), "a byte is lost or repeated");
        self.output.extend_from_slice(&bytes);
        if event.data["stream"] == "stdout" {
            self.stdout.extend_from_slice(&bytes);
        }
        assert_eq!(event.id, self.output.len().to_string());
    }

    /// Looks on until the answer ends.
    async fn watch(&mut self, mut stream: LiveStream) {
        while let Some(event) = stream.next().await {
            self.take(event);
        }
    }

    fn expect_counted(&self, lines: u32) {
        let expected = Script::counted(lines);
        assert!(self.output == expected, "{} bytes of {}", self.output.len(), expected.len());
        let result = self.result.as_ref().expect("a result");
        assert_eq!((&result["state"], &result["exit_code"]), (&json!("succeeded"), &json!(0)));
        assert_eq!(result["output_bytes"], expected.len());
        assert_eq!(result["stdout_bytes"], expected.len());
        assert_eq!(result["is_output_incomplete"], false);
    }
}

/// As text or as base64, never both.
fn bytes(data: &Value) -> Vec<u8> {
    match (data["text"].as_str(), data["base64"].as_str()) {
        (Some(text), None) => text.as_bytes().to_vec(),
        (None, Some(text)) => {
            let bytes = BASE64.decode(text.as_bytes()).expect("base64");
            assert!(std::str::from_utf8(&bytes).is_err(), "text as base64: {data}");
            bytes
        }
        _ => panic!("neither text nor base64, or both: {data}"),
    }
}

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

async fn viewers_that_are_cut_off_anywhere_see_every_byte_once(world: World) {
    let long = Script::counting("long", LINES, 20, "0.02");
    let (_agent, id) = run(&world, long, "long").await;
    let cut_again_and_again = async |mut bytes: usize| {
        let mut seen = Seen::default();
        while seen.result.is_none() {
            let stream = open(&world.api, &id, &seen.last_id).await;
            for event in stream.cut_after(bytes).await {
                seen.take(event);
            }
            // Between two events and within them, never at the same place.
            bytes = bytes * 7 % 4_099 + 150;
        }
        seen
    };
    let patient = async {
        let mut seen = Seen::default();
        seen.watch(open(&world.api, &id, "").await).await;
        seen
    };
    let (one, two, patient) =
        tokio::join!(cut_again_and_again(700), cut_again_and_again(1_999), patient);
    for seen in [one, two, patient] {
        seen.expect_counted(LINES);
    }
}

async fn a_viewer_comes_back_to_a_server_that_was_killed(mut world: World) {
    let long = Script::counting("long", LINES, 20, "0.05");
    let (_agent, id) = run(&world, long, "long").await;
    let mut seen = Seen::default();
    for is_killed in [true, false] {
        let mut stream = open(&world.api, &id, &seen.last_id).await;
        seen.take(stream.next().await.expect("output"));
        match is_killed {
            true => world.server.kill_9(),
            false => world.server.stop(),
        }
        seen.watch(stream).await;
        assert!(seen.result.is_none(), "the run is over too early");
        world.server.resume();
        world.server.ready().await;
    }
    seen.watch(open(&world.api, &id, &seen.last_id).await).await;
    seen.expect_counted(LINES);
}

async fn whoever_comes_after_the_end_gets_all_of_it_and_the_result(world: World) {
    let script = Script::counting("short", 100, 1_000, "0");
    let (_agent, id) = run(&world, script, "short").await;
    world.api.finished(&id).await;
    let mut seen = Seen::default();
    seen.watch(open(&world.api, &id, "").await).await;
    seen.expect_counted(100);
    let again = open(&world.api, &id, &seen.last_id).await.next().await.expect("the result");
    assert_eq!((again.name.as_str(), Some(again.data)), ("result", seen.result));
    let middle = LiveStream::open(&world.api, &format!("{}?from_bytes=7", path(&id)), "").await;
    let first = middle.expect("a live stream").next().await.expect("output");
    assert_eq!((&first.data["offset_bytes"], bytes(&first.data).len()), (&json!(7), 100 * 28 - 7));
}

#[tokio::test]
async fn characters_that_arrive_in_pieces_are_shown_whole_and_bytes_as_they_are() {
    let world = World::on_sqlite().await;
    let gate = world.site.path().join("gate");
    let body = "printf 'caf\\303'; while [ ! -e \"$GATE\" ]; do sleep 0.02; done; printf '\\251\\n'; \
                printf 'oh \\342\\202' >&2; head -c 200000 /dev/urandom";
    let (_agent, agent) = world.agent(AgentOptions::with_scripts([Script::new("torn", body)])).await;
    let id = world.api.execute(&agent, "torn", json!({"parameters": {"GATE": gate}})).await;
    let mut stream = open(&world.api, &id, "").await;
    let mut seen = Seen::default();
    let first = stream.next().await.expect("output");
    assert_eq!(first.data["text"], "caf", "the character has only begun");
    seen.take(first);
    world.api.output_reaches(&id, 4).await;
    std::fs::write(&gate, "").expect("open the gate");
    let second = stream.next().await.expect("output");
    assert!(second.data["text"].as_str().is_some_and(|text| text.starts_with('é')), "{second:?}");
    seen.take(second);
    seen.watch(stream).await;
    assert!(seen.output == world.api.output(&id).await, "not the bytes that were stored");
    assert!(seen.stdout.len() == 200_000 + 6 && seen.result.is_some());
}

#[tokio::test]
async fn one_stream_is_shown_alone_with_the_offsets_of_both() {
    let world = World::on_sqlite().await;
    let script = Script::new("both", "echo out; echo err >&2; sleep 0.2; echo out again");
    let (_agent, id) = run(&world, script, "both").await;
    let only = format!("{}?stream=stdout", path(&id));
    let mut stream = LiveStream::open(&world.api, &only, "").await.expect("a live stream");
    let (mut text, mut last_id) = (String::new(), String::new());
    while let Some(event) = stream.next().await {
        assert_ne!(event.data["stream"], "stderr");
        text.push_str(event.data["text"].as_str().unwrap_or_default());
        last_id = event.id;
    }
    assert_eq!((text.as_str(), last_id.as_str()), ("out\nout again\n", "18"));
}

#[tokio::test]
async fn an_answer_that_does_not_follow_ends_where_output_ends_now() {
    let world = World::on_sqlite().await;
    let script = Script::new("sleep", "echo begun; exec sleep 600");
    let (_agent, id) = run(&world, script, "sleep").await;
    world.api.output_reaches(&id, 6).await;
    let now = format!("{}?follow=false", path(&id));
    let mut stream = LiveStream::open(&world.api, &now, "").await.expect("a live stream");
    assert_eq!(stream.next().await.expect("output").data["text"], "begun\n");
    assert_eq!(stream.next().await, None);
    cancelled(&world, &id).await;
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
    world.api.delete(&format!("/api/keys/{}", views[0].0)).await.expect(204);
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
    assert_eq!(streams.len(), 64);
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
