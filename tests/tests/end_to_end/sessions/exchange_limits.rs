//! The HTTP exchange is bounded: requests of a session, bytes of a key, and callers that hang up.

use std::time::Duration;

use muster_protocol::frame::exchange::{
    CONTENT_TYPE, ExchangePart, ExchangeRequest, ExchangeResponse, MAX_BODY_BYTES,
};
use muster_tests::{Fixture, JsonFields as _, Server, eventually, full_registration, proven};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use uuid::Uuid;

/// One session, and the requests that a test makes of it.
struct Session {
    address: String,
    key: String,
    id: Uuid,
    connected: Value,
}

impl Session {
    async fn open(fixture: &Fixture) -> Self {
        let (_, key) = fixture.api.agent_key(json!({})).await;
        Self::of_key(fixture, key).await
    }

    async fn of_key(fixture: &Fixture, key: String) -> Self {
        let (address, connected) = (fixture.server.address(), Value::Null);
        let mut session = Self { address, key, id: Uuid::new_v4(), connected };
        session.connected = session.ask(0, 30_000, &[]).await.remove(0);
        assert_eq!(session.connected["type"], "connected");
        session
    }

    fn register(&self) -> Value {
        let challenge = serde_json::from_value(self.connected["challenge"].clone());
        let agent_key_id = self.connected.text("agent_key_id").parse().expect("an id");
        let data = full_registration(json!({}));
        let data = proven(data, &challenge.expect("a challenge"), agent_key_id);
        json!({"type": "register", "data": data})
    }

    fn body(&self, sequence: u64, wait_ms: u32, frames: &[Value]) -> Vec<u8> {
        let parts = frames.iter().map(|frame| ExchangePart::Text(frame.to_string())).collect();
        ExchangeRequest { session_id: self.id, sequence, wait_ms, parts }.encode()
    }

    /// The head of a request with a body of this size.
    fn head(&self, bytes: usize) -> String {
        format!(
            "POST /api/agents/exchange HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
             content-type: {CONTENT_TYPE}\r\ncontent-length: {bytes}\r\n\r\n",
            self.address, self.key,
        )
    }

    /// Sends the start of a request whose body is declared to have `bytes`.
    async fn begin(&self, body: &[u8], bytes: usize) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).await.expect("reach the server");
        stream.write_all(self.head(bytes).as_bytes()).await.expect("send the head");
        stream.write_all(body).await.expect("send the body");
        stream
    }

    async fn ask(&self, sequence: u64, wait_ms: u32, frames: &[Value]) -> Vec<Value> {
        let body = self.body(sequence, wait_ms, frames);
        // Again, as agents do, if an older attempt that arrived late took its place.
        let (status, answer) = eventually("a request is answered", async || {
            let mut stream = self.begin(&body, body.len()).await;
            let answer = read_answer(&mut stream).await;
            (answer.0 != 503).then_some(answer)
        })
        .await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
        let answer = ExchangeResponse::decode(&answer).expect("an answer");
        let frames = answer.parts.into_iter().map(|part| match part {
            ExchangePart::Text(text) => serde_json::from_str(&text).expect("JSON"),
            other => panic!("{other:?}"),
        });
        frames.collect()
    }
}

/// The status and the body of an answer.
async fn read_answer(stream: &mut TcpStream) -> (u16, Vec<u8>) {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let length = text.split_once("content-length: ").expect("a length").1;
            let length: usize = length.lines().next().expect("a line").parse().expect("a number");
            if bytes.len() >= end + 4 + length {
                let status = text[9..12].parse().expect("a status");
                return (status, bytes.split_off(end + 4));
            }
        }
        let read = stream.read_buf(&mut bytes).await.expect("an answer");
        assert!(read > 0, "no answer: {text}");
    }
}

fn heartbeat() -> Value {
    json!({"type": "heartbeat", "status": {}})
}

#[tokio::test]
async fn third_request_of_a_session_is_refused_before_its_frames_are_read() {
    let fixture = Fixture::on_sqlite().await;
    let session = Session::open(&fixture).await;
    // One waits for the server, one is being sent: each of them is less than half there.
    let start = |sequence| session.body(sequence, 30_000, &[]);
    let _first = session.begin(&start(1), MAX_BODY_BYTES).await;
    eventually("a third request is refused", async || {
        let mut second = session.begin(&start(2), MAX_BODY_BYTES).await;
        let mut third = session.begin(&start(0), MAX_BODY_BYTES).await;
        // The server may read them in any order, and refuses the one that it reads last.
        let refused = async {
            tokio::select! {
                answer = read_answer(&mut second) => answer,
                answer = read_answer(&mut third) => answer,
            }
        };
        let answer = tokio::time::timeout(Duration::from_secs(3), refused);
        let (status, body) = answer.await.ok()?;
        let body: Value = serde_json::from_slice(&body).expect("a problem");
        (status == 503 && body["code"] == "server_busy").then_some(())
    })
    .await;
    // A repetition takes the place of the request that it repeats.
    assert!(session.ask(1, 0, &[]).await.is_empty());
}

#[tokio::test]
async fn caller_that_hangs_up_loses_no_frame_and_doubles_none() {
    let fixture = Fixture::on_sqlite().await;
    let session = Session::open(&fixture).await;
    let body = session.body(1, 30_000, &[session.register(), heartbeat()]);
    // It hangs up while it sends, and while it waits.
    drop(session.begin(&body[..body.len() / 2], body.len()).await);
    drop(session.begin(&body, body.len()).await);
    let mut frames = session.ask(1, 30_000, &[session.register(), heartbeat()]).await;
    let mut sequence = 1;
    while frames.iter().filter(|frame| frame["type"] == "heartbeat_ack").count() < 1 {
        sequence += 1;
        frames.extend(session.ask(sequence, 30_000, &[]).await);
    }
    // A repeated request gets the same answer, and its frames are not handled again.
    let asked = session.ask(sequence + 1, 0, &[heartbeat()]).await;
    assert_eq!(session.ask(sequence + 1, 0, &[heartbeat()]).await, asked);
    frames.extend(asked);
    frames.extend(session.ask(sequence + 2, 1_000, &[]).await);
    let count = |kind: &str| frames.iter().filter(|frame| frame["type"] == kind).count();
    assert_eq!((count("registered"), count("heartbeat_ack"), count("error")), (1, 2, 0));
}

#[tokio::test]
async fn requests_of_a_key_hold_little_memory_and_none_after_they_hang_up() {
    let mut fixture = Fixture::on_sqlite().await;
    let (_, key) = fixture.api.agent_key(json!({"max_agents": 32})).await;
    let open = (0..16).map(|_| Session::of_key(&fixture, key.clone()));
    let sessions = futures_util::future::join_all(open).await;
    let before = resident_bytes(&mut fixture.server);
    // All but the end of a body, from each session: 32 MB, of which the key may hold 16 MiB.
    let body = |session: &Session| {
        let mut body = session.body(1, 30_000, &[]);
        body.resize(MAX_BODY_BYTES - 1024, 0);
        body
    };
    let sending = sessions.iter().map(|session| async {
        let mut stream = session.begin(&[], MAX_BODY_BYTES).await;
        // The server does not read on when the key holds enough.
        let body = body(session);
        let sent = tokio::time::timeout(Duration::from_secs(3), stream.write_all(&body));
        let _ = sent.await;
        stream
    });
    let streams = futures_util::future::join_all(sending).await;
    let held = resident_bytes(&mut fixture.server).saturating_sub(before);
    assert!(held < 24 * 1024 * 1024, "{held} bytes more than before");
    drop(streams);
    // Nothing of it is held any more, or this would wait in vain for bytes of the key.
    let session = Session::of_key(&fixture, key).await;
    assert!(session.ask(1, 0, &[]).await.is_empty(), "the session goes on");
}

#[tokio::test]
async fn body_of_empty_parts_is_refused_and_its_session_continues() {
    let mut fixture = Fixture::on_sqlite().await;
    let session = Session::open(&fixture).await;
    let mut body = session.body(1, 0, &[]);
    while body.len() + 5 <= MAX_BODY_BYTES {
        body.extend_from_slice(&[1, 0, 0, 0, 0]);
    }
    let before = resident_bytes(&mut fixture.server);
    let (status, answer) = read_answer(&mut session.begin(&body, body.len()).await).await;
    let problem: Value = serde_json::from_slice(&answer).expect("a problem");
    assert_eq!((status, &problem["code"]), (400, &json!("malformed_json")));
    let held = resident_bytes(&mut fixture.server).saturating_sub(before);
    assert!(held < 16 * 1024 * 1024, "{held} bytes more than before");
    assert!(session.ask(1, 0, &[]).await.is_empty(), "the sequence is still open");
}

#[tokio::test]
async fn body_that_arrives_byte_by_byte_is_cut() {
    let options =
        muster_tests::ServerOptions::default().with("MUSTER_REQUEST_HEAD_TIMEOUT_MS", 500);
    let fixture = Fixture::with(options).await;
    let session = Session::open(&fixture).await;
    let body = session.body(1, 0, &[]);
    let mut stream = session.begin(&body, body.len() + 10_000).await;
    let (mut from_server, mut to_server) = stream.split();
    let trickle = async {
        // Ends when the server hangs up.
        while to_server.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let mut answer = Vec::new();
    let cut = tokio::select! {
        read = from_server.read_buf(&mut answer) => read,
        () = trickle => Ok(0),
    };
    assert!(cut.is_ok(), "{cut:?}");
    assert!(session.ask(1, 0, &[]).await.is_empty(), "the request can be repeated");
}

fn resident_bytes(server: &mut Server) -> u64 {
    let id = server.process().id();
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("a process");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("its memory");
    let kib: u64 = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
    kib * 1024
}
