//! Examples of answers without an end, of large ones, and of those that are not JSON: their beginning.

use data_encoding::BASE64;
use muster_protocol::frame::exchange::{
    CONTENT_TYPE, ExchangePart, ExchangeRequest, ExchangeResponse,
};
use muster_tests::{Api, JsonFields as _};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Recorder, stable};

/// Lines of an export that are shown.
const SHOWN_LINES: usize = 3;

/// Changes of executions and jobs, and entries of the audit log, while a job runs.
pub async fn live(run: &mut Recorder<'_>, agent: &str) {
    let api = &run.fixture.api;
    let changes = api.stream("/api/events", &[]).await.expect("reach the server");
    let audit = api.stream("/api/audit/live", &[]).await.expect("reach the server");
    let body = json!({"script": "deploy", "target": {"ids": [agent]}});
    api.post("/api/jobs", body).await.expect(202);
    let changes = beginning(changes, "event: execution").await;
    let audit = beginning(audit, "event: entry").await;
    for (name, text) in [("follow_events", changes), ("follow_audit", audit)] {
        record(run, name, "text/event-stream", text);
    }
}

/// The text of a stream up to the end of the first block that has this line.
async fn beginning(mut response: reqwest::Response, line: &str) -> String {
    let mut text = String::new();
    loop {
        let at = text.find(line);
        if let Some(end) = at.and_then(|at| Some(at + text[at..].find("\n\n")? + 2)) {
            text.truncate(end);
            return text;
        }
        let chunk = response.chunk().await.expect("a stream").expect("the stream goes on");
        text.push_str(&String::from_utf8_lossy(&chunk));
    }
}

/// The first lines of an export.
pub async fn export(run: &mut Recorder<'_>, owner: &Api) {
    let answer = owner.get("/api/tenant/export").await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.bytes));
    let kind = answer.header("content-type").to_owned();
    let text = String::from_utf8(answer.bytes).expect("text");
    let lines: String = text.split_inclusive('\n').take(SHOWN_LINES).collect();
    record(run, "export_tenant", &kind, lines);
}

/// The lines of one metric.
pub async fn metrics(run: &mut Recorder<'_>) {
    let accept = [("accept", "text/plain")];
    let answer = run.fixture.api.try_send(Method::GET, "/metrics", &accept, None).await;
    let answer = answer.expect("reach the server");
    assert_eq!(answer.status, 200);
    let text = String::from_utf8(answer.bytes).expect("text");
    let is_shown = |line: &&str| line.contains("muster_agents_online");
    let lines: String = text.split_inclusive('\n').filter(is_shown).collect();
    assert_eq!(lines.lines().count(), 3, "help, type and value: {text}");
    record(run, "get_metrics", "text/plain", lines);
}

fn record(run: &mut Recorder<'_>, name: &str, kind: &str, text: String) {
    let example = json!({"status": "200", "content_type": kind, "response": text});
    run.examples.insert(name.to_owned(), example);
}

/// The first exchange of an agent, in base64: the server answers with `connected`.
pub async fn exchange(run: &mut Recorder<'_>) {
    let (_, key) = run.fixture.api.agent_key(json!({})).await;
    let session_id = Uuid::from_u128(0x01900000_0000_7000_8000_000000000001);
    let request = ExchangeRequest { session_id, sequence: 0, wait_ms: 1_000, parts: vec![] };
    let answer = reqwest::Client::new()
        .post(format!("{}/api/agents/exchange", run.fixture.server.url()))
        .bearer_auth(key)
        .header("content-type", CONTENT_TYPE)
        .body(request.encode())
        .send()
        .await
        .expect("reach the server");
    assert_eq!(answer.status(), 200);
    let bytes = answer.bytes().await.expect("a body");
    let response = ExchangeResponse::decode(&bytes).expect("an answer");
    let parts = response.parts.into_iter().map(shown).collect();
    let response = ExchangeResponse { parts, ..response };
    run.examples.insert(
        "exchange_frames".to_owned(),
        json!({"status": "200", "content_type": CONTENT_TYPE,
            "request": BASE64.encode(&request.encode()),
            "response": BASE64.encode(&response.encode())}),
    );
}

/// A frame with the same ids and the same challenge in every run.
fn shown(part: ExchangePart) -> ExchangePart {
    let ExchangePart::Text(text) = part else { panic!("the first frame is a text") };
    let mut frame: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(frame.text("type"), "connected");
    frame["challenge"] = json!(BASE64.encode(&[0; 32]));
    ExchangePart::Text(stable(&frame).to_string())
}
