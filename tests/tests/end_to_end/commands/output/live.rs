//! Live output: every byte once, wherever the viewer was cut off, and the result after it.

use data_encoding::BASE64;
use muster_tests::{AgentOptions, Api, Fixture, LiveEvent, LiveStream, Script, on_both_databases};
use serde_json::{Value, json};

on_both_databases!(
    interrupted_viewers_receive_every_byte_once,
    live_stream_resumes_after_the_server_was_killed,
    late_viewer_receives_all_output_and_the_result,
);

const LINES: u32 = 1_500;

/// The output that a viewer has assembled.
#[derive(Default)]
struct ViewedOutput {
    output: Vec<u8>,
    stdout: Vec<u8>,
    last_id: String,
    result: Option<Value>,
}

impl ViewedOutput {
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

    /// Reads until the answer ends.
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

/// An agent with only this script, and a run of it.
async fn run(fixture: &Fixture, script: Script, name: &str) -> (muster_tests::Agent, String) {
    let (agent, id) = fixture.agent(AgentOptions::with_scripts([script])).await;
    (agent, fixture.api.execute(&id, name, json!({})).await)
}

async fn cancelled(fixture: &Fixture, id: &str) {
    fixture.api.post(&format!("/api/commands/{id}/cancel"), json!({})).await.expect(202);
    fixture.api.finished(id).await;
}

async fn interrupted_viewers_receive_every_byte_once(fixture: Fixture) {
    let long = Script::counting("long", LINES, 20, "0.02");
    let (_agent, id) = run(&fixture, long, "long").await;
    let cut_again_and_again = async |mut bytes: usize| {
        let mut seen = ViewedOutput::default();
        while seen.result.is_none() {
            let stream = open(&fixture.api, &id, &seen.last_id).await;
            let events = stream.cut_after(bytes).await;
            // Between two events and within them, at a different offset each time. At least one
            // event must get through.
            bytes = if events.is_empty() { bytes * 2 } else { bytes * 7 % 4_099 + 150 };
            for event in events {
                seen.take(event);
            }
        }
        seen
    };
    let patient = async {
        let mut seen = ViewedOutput::default();
        seen.watch(open(&fixture.api, &id, "").await).await;
        seen
    };
    let (one, two, patient) =
        tokio::join!(cut_again_and_again(700), cut_again_and_again(1_999), patient);
    for seen in [one, two, patient] {
        seen.expect_counted(LINES);
    }
}

async fn live_stream_resumes_after_the_server_was_killed(mut fixture: Fixture) {
    let long = Script::counting("long", LINES, 20, "0.05");
    let (_agent, id) = run(&fixture, long, "long").await;
    let mut seen = ViewedOutput::default();
    for is_killed in [true, false] {
        let mut stream = open(&fixture.api, &id, &seen.last_id).await;
        seen.take(stream.next().await.expect("output"));
        match is_killed {
            true => fixture.server.kill_9(),
            false => fixture.server.stop(),
        }
        seen.watch(stream).await;
        assert!(seen.result.is_none(), "the run is over too early");
        fixture.server.resume();
        fixture.server.ready().await;
    }
    seen.watch(open(&fixture.api, &id, &seen.last_id).await).await;
    seen.expect_counted(LINES);
}

async fn late_viewer_receives_all_output_and_the_result(fixture: Fixture) {
    let script = Script::counting("short", 100, 1_000, "0");
    let (_agent, id) = run(&fixture, script, "short").await;
    fixture.api.finished(&id).await;
    let mut seen = ViewedOutput::default();
    seen.watch(open(&fixture.api, &id, "").await).await;
    seen.expect_counted(100);
    let again = open(&fixture.api, &id, &seen.last_id).await.next().await.expect("the result");
    assert_eq!((again.name.as_str(), Some(again.data)), ("result", seen.result));
    let middle = LiveStream::open(&fixture.api, &format!("{}?from_bytes=7", path(&id)), "").await;
    let mut middle = middle.expect("a live stream");
    let mut offset_bytes = 7;
    loop {
        let event = middle.next().await.expect("output or the result");
        if event.name == "result" {
            break;
        }
        assert_eq!(event.data["offset_bytes"], json!(offset_bytes));
        offset_bytes += bytes(&event.data).len();
    }
    assert_eq!(offset_bytes, 100 * 28);
}

#[tokio::test]
async fn split_characters_are_joined_and_other_bytes_are_unchanged() {
    let fixture = Fixture::on_sqlite().await;
    let gate = fixture.test_dir.path().join("gate");
    let body = "printf 'caf\\303'; while [ ! -e \"$GATE\" ]; do sleep 0.02; done; printf '\\251\\n'; \
                while [ ! -e \"$GATE.2\" ]; do sleep 0.02; done; \
                printf 'oh \\342\\202' >&2; head -c 200000 /dev/urandom";
    let (_agent, agent) = fixture
        .agent(AgentOptions::with_scripts([Script::new("torn", body).taking(["GATE"])]))
        .await;
    let id = fixture.api.execute(&agent, "torn", json!({"parameters": {"GATE": gate}})).await;
    let mut stream = open(&fixture.api, &id, "").await;
    let mut seen = ViewedOutput::default();
    let first = stream.next().await.expect("output");
    assert_eq!(first.data["text"], "caf", "the character has only begun");
    seen.take(first);
    fixture.api.output_reaches(&id, 4).await;
    std::fs::write(&gate, "").expect("open the gate");
    let second = stream.next().await.expect("output");
    assert!(second.data["text"].as_str().is_some_and(|text| text.starts_with('é')), "{second:?}");
    seen.take(second);
    std::fs::write(fixture.test_dir.path().join("gate.2"), "").expect("open the second gate");
    seen.watch(stream).await;
    assert!(seen.output == fixture.api.output(&id).await, "not the bytes that were stored");
    assert!(seen.stdout.len() == 200_000 + 6 && seen.result.is_some());
}

#[tokio::test]
async fn single_stream_keeps_the_offsets_of_both() {
    let fixture = Fixture::on_sqlite().await;
    let script = Script::new("both", "echo out; echo err >&2; sleep 0.2; echo out again");
    let (_agent, id) = run(&fixture, script, "both").await;
    let only = format!("{}?stream=stdout", path(&id));
    let mut stream = LiveStream::open(&fixture.api, &only, "").await.expect("a live stream");
    let mut pieces = Vec::new();
    while let Some(event) = stream.next().await {
        assert_ne!(event.data["stream"], "stderr");
        if event.name == "output" {
            pieces.push((event.data["text"].clone(), event.data["offset_bytes"].clone(), event.id));
        }
    }
    let texts: Vec<_> = pieces.iter().map(|(text, ..)| text).collect();
    assert_eq!(texts, [&json!("out\n"), &json!("out again\n")]);
    assert_eq!(pieces.last(), Some(&(json!("out again\n"), json!(8), "18".into())));
}

#[tokio::test]
async fn stream_without_follow_ends_at_the_current_end_of_output() {
    let fixture = Fixture::on_sqlite().await;
    let script = Script::new("sleep", "echo begun; exec sleep 600");
    let (_agent, id) = run(&fixture, script, "sleep").await;
    fixture.api.output_reaches(&id, 6).await;
    let now = format!("{}?follow=false", path(&id));
    let mut stream = LiveStream::open(&fixture.api, &now, "").await.expect("a live stream");
    assert_eq!(stream.next().await.expect("output").data["text"], "begun\n");
    assert_eq!(stream.next().await, None);
    cancelled(&fixture, &id).await;
}
