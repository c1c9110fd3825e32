//! Requests and downloads that were begun before their key ended, and end with it.

use std::time::Duration;

use chrono::{SecondsFormat, TimeDelta, Utc};
use muster_protocol::frame::exchange::{
    CONTENT_TYPE, ExchangePart, ExchangeRequest, ExchangeResponse,
};
use muster_protocol::release::Platform;
use muster_tests::{
    AgentOptions, Api, ApiResponse, FakeAgent, Fixture, JsonFields as _, Publisher, Script,
    full_registration, on_both_databases, proven,
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use uuid::Uuid;

on_both_databases!(
    long_polls_of_a_revoked_key_end_with_it,
    long_polls_of_an_expired_key_end_with_it,
    submission_whose_key_is_revoked_before_its_body_has_arrived_is_not_stored,
);

/// Generous: the answers that a test waits for come at once, or after a minute.
const PATIENCE: Duration = Duration::from_secs(45);
const OUTPUT_BYTES: usize = 24_000_000;

/// One request over a connection of its own, as it was sent.
struct RawRequest(TcpStream);

impl RawRequest {
    async fn send(fixture: &Fixture, key: &str, head: &str, headers: &str) -> Self {
        let mut stream =
            TcpStream::connect(fixture.server.address()).await.expect("reach the server");
        let request = format!(
            "{head} HTTP/1.1\r\nhost: m\r\nauthorization: Bearer {key}\r\nconnection: close\r\n{headers}\r\n"
        );
        stream.write_all(request.as_bytes()).await.expect("ask");
        Self(stream)
    }

    /// Sends the head of a request with a body, and waits until the server has authenticated it and
    /// wants the body.
    async fn begin_body(
        fixture: &Fixture,
        key: &str,
        head: &str,
        kind: &str,
        bytes: usize,
    ) -> Self {
        let headers =
            format!("content-type: {kind}\r\ncontent-length: {bytes}\r\nexpect: 100-continue\r\n");
        let mut request = Self::send(fixture, key, head, &headers).await;
        let wanted = b"HTTP/1.1 100 Continue\r\n\r\n";
        let mut answer = vec![0; wanted.len()];
        request.0.read_exact(&mut answer).await.expect("an answer");
        assert_eq!(answer, wanted, "{}", String::from_utf8_lossy(&answer));
        request
    }

    /// Everything that the server answers.
    async fn answer(mut self) -> String {
        let mut answer = Vec::new();
        // A server that has not read the whole request may reset the connection after its answer.
        let _ = timeout(PATIENCE, self.0.read_to_end(&mut answer)).await.expect("an answer");
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn expect_problem(self, status: u16, code: &str) {
        let answer = self.answer().await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains(&format!("\"code\":\"{code}\"")), "{answer}");
    }
}

/// A connected agent that answers nothing, and its id.
async fn silent_agent(fixture: &Fixture) -> (FakeAgent, String) {
    let (key_id, key) = fixture.api.agent_key(json!({"permissions": muster_tests::ALL})).await;
    let agent = FakeAgent::registered(&fixture.server.address(), &key, "one").await;
    let id = fixture.online(&key_id).await.id().to_owned();
    (agent, id)
}

async fn api_key(fixture: &Fixture, body: Value) -> (String, Api) {
    let made = fixture.api.post("/api/keys", body).await.expect(201);
    (made.id().to_owned(), fixture.api.with_key(made.text("key")))
}

/// Long polls of this key, each waiting when this returns; the last one is a ping that the agent has
/// received.
async fn long_polls(
    fixture: &Fixture,
    key: &str,
    agent: &mut FakeAgent,
    agent_id: &str,
    command: &str,
) -> Vec<RawRequest> {
    let mut requests = Vec::new();
    for path in [
        format!("/api/commands/{command}?wait_ms=60000"),
        format!("/api/executions/{command}?wait_ms=60000"),
        format!("/api/commands/{command}/output?wait_ms=60000"),
        format!("/api/executions/{command}/output?wait_ms=60000"),
        "/api/agents/connected?name=nobody&wait_ms=60000".to_owned(),
    ] {
        requests.push(RawRequest::send(fixture, key, &format!("GET {path}"), "").await);
    }
    let body = "{\"wait_ms\":60000}";
    let head = format!("POST /api/agents/{agent_id}/ping");
    let mut ping =
        RawRequest::begin_body(fixture, key, &head, "application/json", body.len()).await;
    ping.0.write_all(body.as_bytes()).await.expect("send the body");
    agent.expect("command").await;
    requests.push(ping);
    requests
}

async fn long_polls_of_a_revoked_key_end_with_it(fixture: Fixture) {
    let (mut agent, agent_id) = silent_agent(&fixture).await;
    let command = fixture.api.execute_anyway(&agent_id, json!({"script": "deploy"})).await;
    agent.expect("command").await;
    let (key_id, viewer) = api_key(&fixture, json!({"name": "viewer", "role": "member"})).await;
    let requests = long_polls(&fixture, viewer.key(), &mut agent, &agent_id, &command).await;
    let owners = format!("GET /api/commands/{command}?wait_ms=60000");
    let owners = RawRequest::send(&fixture, fixture.api.key(), &owners, "").await;
    fixture.api.delete(&format!("/api/keys/{key_id}")).await.expect(200);
    for request in requests {
        request.expect_problem(401, "invalid_api_key").await;
    }
    // The end of one key is not the end of another.
    agent.send(json!({"type": "response", "command_id": command, "success": true})).await;
    let answer = owners.answer().await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"succeeded\""), "{answer}");
}

async fn long_polls_of_an_expired_key_end_with_it(fixture: Fixture) {
    let (mut agent, agent_id) = silent_agent(&fixture).await;
    let command = fixture.api.execute_anyway(&agent_id, json!({"script": "deploy"})).await;
    agent.expect("command").await;
    let expires_at =
        (Utc::now() + TimeDelta::seconds(4)).to_rfc3339_opts(SecondsFormat::Millis, true);
    let body = json!({"name": "viewer", "role": "member", "expires_at": expires_at});
    let (_, viewer) = api_key(&fixture, body).await;
    let requests = long_polls(&fixture, viewer.key(), &mut agent, &agent_id, &command).await;
    for request in requests {
        request.expect_problem(401, "expired_api_key").await;
    }
}

async fn submission_whose_key_is_revoked_before_its_body_has_arrived_is_not_stored(
    fixture: Fixture,
) {
    let (_agent, agent_id) = silent_agent(&fixture).await;
    let (key_id, sender) = api_key(&fixture, json!({"name": "sender", "role": "owner"})).await;
    let job = json!({"script": "deploy", "target": {"ids": [agent_id]}, "on_mismatch": "send"});
    let command =
        json!({"command": "execute", "data": {"script": "deploy"}, "on_mismatch": "send"});
    let key = json!({"name": "heir", "role": "member"});
    let mut requests = Vec::new();
    for (path, body) in [
        ("/api/jobs".to_owned(), job.to_string()),
        (format!("/api/agents/{agent_id}/command"), command.to_string()),
        ("/api/keys".to_owned(), key.to_string()),
        (format!("/api/agents/{agent_id}/ping"), json!({"wait_ms": 1}).to_string()),
    ] {
        let head = format!("POST {path}");
        let (key, bytes) = (sender.key(), body.len());
        let request = RawRequest::begin_body(&fixture, key, &head, "application/json", bytes).await;
        requests.push((request, body));
    }
    fixture.api.delete(&format!("/api/keys/{key_id}")).await.expect(200);
    for (mut request, body) in requests {
        // The server may have answered and closed.
        let _ = request.0.write_all(body.as_bytes()).await;
        request.expect_problem(401, "invalid_api_key").await;
    }
    for path in ["/api/jobs", "/api/commands"] {
        let stored = fixture.api.get(path).await.expect(200);
        assert_eq!(stored["items"], json!([]), "{path}");
    }
    let keys = fixture.api.get("/api/keys").await.expect(200);
    assert!(!keys.to_string().contains("heir"), "{keys}");
    let audit = fixture.api.get("/api/audit").await.expect(200);
    assert!(!audit.to_string().contains("command.send"), "{audit}");
}

#[tokio::test]
async fn download_of_a_revoked_key_ends_with_it() {
    let fixture = Fixture::on_sqlite().await;
    let body = format!("yes 'a line of the flood' | head -c {OUTPUT_BYTES}");
    let options = AgentOptions::with_scripts([Script::new("flood", &body)]);
    let (_agent, agent_id) = fixture.agent(options).await;
    let id = fixture.api.execute(&agent_id, "flood", json!({})).await;
    fixture.api.finished(&id).await;
    let (key_id, viewer) = api_key(&fixture, json!({"name": "viewer", "role": "member"})).await;
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("a small buffer");
    let address = fixture.server.address().parse().expect("an address");
    let mut download = socket.connect(address).await.expect("reach the server");
    let request = format!(
        "GET /api/executions/{id}/output HTTP/1.1\r\nhost: m\r\nauthorization: Bearer {}\r\n\r\n",
        viewer.key()
    );
    download.write_all(request.as_bytes()).await.expect("ask");
    let mut first = [0; 1_024];
    download.read_exact(&mut first).await.expect("the first bytes");
    assert!(first.starts_with(b"HTTP/1.1 200 "));
    fixture.api.delete(&format!("/api/keys/{key_id}")).await.expect(200);
    let mut rest = Vec::new();
    let _ = timeout(PATIENCE, download.read_to_end(&mut rest)).await.expect("an end");
    assert!(rest.len() < OUTPUT_BYTES / 2, "{} bytes came after the revocation", rest.len());
}

#[tokio::test]
async fn upload_of_a_revoked_key_ends_with_it() {
    let fixture = Fixture::on_sqlite().await;
    let publisher = Publisher::new(&fixture).await;
    let folder = publisher.make("0.2.0", "0.1.0").await;
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect("read");
    let draft = json!({"manifest": read("release.json"), "signature": read("release.sig")});
    fixture.api.post("/api/releases", draft).await.expect(201);
    let platform = Platform::own().expect("a platform with releases").to_string();
    let program = std::fs::read(folder.join(&platform).join("muster-supervisor")).expect("read");
    let body = json!({"name": "ci", "role": "owner", "scopes": ["releases:manage"]});
    let (key_id, uploader) = api_key(&fixture, body).await;
    let head = format!("PUT /api/releases/0.2.0/{platform}/muster-supervisor");
    let kind = "application/octet-stream";
    let mut upload =
        RawRequest::begin_body(&fixture, uploader.key(), &head, kind, program.len()).await;
    let (first, rest) = program.split_at(program.len() / 2);
    upload.0.write_all(first).await.expect("send the first half");
    fixture.api.delete(&format!("/api/keys/{key_id}")).await.expect(200);
    // The server may have answered and closed.
    let _ = upload.0.write_all(rest).await;
    let answer = upload.answer().await;
    assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    let stored = fixture.server.data_dir().join("releases/0.2.0").join(&platform);
    assert!(!stored.join("muster-supervisor").exists(), "the program was stored");
}

/// What ends an agent key, with the status and code of the requests that it ends.
const ENDS: [(&str, u16, &str); 4] = [
    ("disable", 403, "key_disabled"),
    ("delete", 401, "key_deleted"),
    ("regenerate", 401, "key_regenerated"),
    ("expire", 403, "key_expired"),
];

/// An agent key that this will end; its id and secret.
async fn doomed_key(fixture: &Fixture, end: &str) -> (String, String) {
    let expires_at =
        (Utc::now() + TimeDelta::seconds(4)).to_rfc3339_opts(SecondsFormat::Millis, true);
    let expires_at = (end == "expire").then_some(expires_at);
    fixture.api.agent_key(json!({"expires_at": expires_at})).await
}

async fn end_key(fixture: &Fixture, end: &str, id: &str) {
    let path = format!("/api/agents/keys/{id}");
    match end {
        "disable" => {
            fixture.api.patch(&path, json!({"status": "disabled"})).await.expect(200);
        }
        "delete" => {
            fixture.api.delete(&path).await.expect(204);
        }
        "regenerate" => {
            fixture.api.post(&format!("{path}/regenerate"), json!({})).await.expect(200);
        }
        _ => {}
    }
}

#[tokio::test]
async fn poll_of_a_basic_agent_ends_with_its_key() {
    let fixture = Fixture::on_sqlite().await;
    for (end, status, code) in ENDS {
        let (id, key) = doomed_key(&fixture, end).await;
        let agent = fixture.api.with_key(&key);
        let poll = tokio::spawn(async move { agent.get("/api/agents/poll?wait_ms=30000").await });
        fixture.online(&id).await;
        end_key(&fixture, end, &id).await;
        let answer: ApiResponse = poll.await.expect("an answer");
        answer.expect_problem(status, code);
    }
}

#[tokio::test]
async fn exchange_of_a_full_agent_ends_with_its_key() {
    let fixture = Fixture::on_sqlite().await;
    for (end, _, code) in ENDS {
        let (id, key) = doomed_key(&fixture, end).await;
        let (url, session_id) = (fixture.server.url(), Uuid::new_v4());
        let exchange = async |sequence: u64, parts: Vec<ExchangePart>| {
            let request = ExchangeRequest { session_id, sequence, wait_ms: 30_000, parts };
            let client = reqwest::Client::builder().no_proxy().build().expect("make a client");
            let response = client
                .request(Method::POST, format!("{url}/api/agents/exchange"))
                .bearer_auth(&key)
                .header("content-type", CONTENT_TYPE)
                .body(request.encode())
                .send()
                .await
                .expect("reach the server");
            let body = response.bytes().await.expect("read the answer");
            ExchangeResponse::decode(&body).expect("an exchange").parts
        };
        let part = |frame: Value| ExchangePart::Text(frame.to_string());
        let connected = exchange(0, Vec::new()).await;
        let Some(ExchangePart::Text(text)) = connected.first() else { panic!("{connected:?}") };
        let connected: Value = serde_json::from_str(text).expect("a frame");
        let challenge = connected.text("challenge").parse().expect("a challenge");
        let agent_key_id = connected.text("agent_key_id").parse().expect("an id");
        let data = proven(full_registration(json!({})), &challenge, agent_key_id);
        let register = json!({"type": "register", "data": data});
        exchange(1, vec![part(register)]).await;
        let opened = exchange(2, vec![part(json!({"type": "inventory_end"}))]);
        let watching = async {
            fixture.online(&id).await;
            end_key(&fixture, end, &id).await;
        };
        let (mut parts, ()) = tokio::join!(opened, watching);
        // What came before the end may have been answered first.
        if !matches!(parts.last(), Some(ExchangePart::Close { .. })) {
            parts = exchange(3, Vec::new()).await;
        }
        let Some(ExchangePart::Close { reason, .. }) = parts.last() else { panic!("{parts:?}") };
        assert_eq!(reason, code);
    }
}
