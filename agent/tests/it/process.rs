//! The whole program over real sockets, with a server that a test plays by hand.

use std::path::Path;
use std::process::Stdio;

use futures_util::{SinkExt as _, StreamExt as _};
use muster_protocol::frame::exchange::{ExchangePart, ExchangeRequest, ExchangeResponse};
use muster_protocol::frame::{AgentFrame, ServerFrame, decode_agent_frame};
use muster_protocol::{CommandName, Permissions};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

use crate::played_server;
use crate::support::{PATIENCE, program};

/// A running agent, ended with the test.
struct Process(std::process::Child);

impl Process {
    fn start(server: &str, state: &Path, more: &[(&str, &str)]) -> Self {
        let mut command = std::process::Command::new(program());
        command
            .arg("run")
            .env_clear()
            .env("MUSTER_SERVER_URL", server)
            .env("MUSTER_STATE_DIR", state)
            .env("MUSTER_API_KEY", "mst_agent_test")
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        for (name, value) in more {
            command.env(name, value);
        }
        Self(command.spawn().expect("the agent starts"))
    }

    /// Waits for the end: the code, and what was said.
    async fn ended(mut self) -> (Option<i32>, String) {
        let mut stderr = self.0.stderr.take().expect("piped");
        let reading = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            let _ = std::io::Read::read_to_string(&mut stderr, &mut text);
            text
        });
        let text = tokio::time::timeout(PATIENCE, reading).await.expect("it ends").expect("read");
        (self.0.wait().expect("collected").code(), text)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let url = format!("ws://{}", listener.local_addr().expect("bound"));
    (listener, url)
}

/// The head of a request, and the connection behind it.
pub async fn accept(listener: &TcpListener) -> (String, BufReader<TcpStream>) {
    let accepting = async {
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await.expect("a line") == 0 {
                break;
            }
        }
        (head, stream)
    };
    tokio::time::timeout(PATIENCE, accepting).await.expect("the agent comes")
}

async fn upgrade(head: &str, mut stream: BufReader<TcpStream>) -> WebSocketStream<TcpStream> {
    let key = head
        .lines()
        .find_map(|line| {
            line.to_ascii_lowercase().starts_with("sec-websocket-key:").then(|| line[18..].trim())
        })
        .expect("a WebSocket's key");
    let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await.expect("written");
    WebSocketStream::from_raw_socket(stream.into_inner(), Role::Server, None).await
}

fn connected() -> String {
    text(&played_server::connected(Permissions::new(CommandName::ALL)))
}

fn registered(epoch: u64) -> String {
    text(&played_server::registered(epoch))
}

fn text(frame: &ServerFrame) -> String {
    serde_json::to_string(frame).expect("plain data")
}

async fn next_text(socket: &mut WebSocketStream<TcpStream>) -> AgentFrame {
    let reading = async {
        loop {
            if let Message::Text(text) = socket.next().await.expect("open").expect("readable") {
                return decode_agent_frame(text.as_str()).expect("a frame");
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("a frame comes")
}

#[tokio::test]
async fn without_a_key_or_encryption_the_agent_stops_for_good_and_logs_the_reason() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let unset = Process::start("ws://127.0.0.1:1", folder.path(), &[("MUSTER_API_KEY", "")]);
    let (code, text) = unset.ended().await;
    assert_eq!(code, Some(99), "{text}");
    assert!(text.contains("MUSTER_API_KEY"), "{text}");
    let (code, text) = Process::start("ws://198.51.100.1", folder.path(), &[]).ended().await;
    assert_eq!(code, Some(99), "{text}");
    assert!(text.contains("--insecure"), "{text}");
}

#[tokio::test]
async fn the_key_is_sent_in_a_header_and_a_deleted_key_ends_the_agent() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (listener, url) = listen().await;
    let agent = Process::start(&format!("{url}/base"), folder.path(), &[]);
    let (head, stream) = accept(&listener).await;
    assert!(head.starts_with("GET /base/ws/agent HTTP/1.1\r\n"), "{head}");
    assert!(head.to_lowercase().contains("authorization: bearer mst_agent_test\r\n"), "{head}");
    let mut socket = upgrade(&head, stream).await;
    socket.send(Message::text(connected())).await.expect("sent");
    let AgentFrame::Register { data } = next_text(&mut socket).await else { panic!("register") };
    assert_eq!(data.protocol, Some(1));
    socket.send(Message::text(registered(1))).await.expect("sent");
    assert!(matches!(next_text(&mut socket).await, AgentFrame::Manifest { .. }));
    let close = CloseFrame { code: 4002.into(), reason: "key_deleted".into() };
    socket.close(Some(close)).await.expect("closed");
    while let Some(Ok(_)) = socket.next().await {}
    let (code, text) = agent.ended().await;
    assert_eq!(code, Some(99), "{text}");
    assert!(text.contains("deleted") && !text.contains("mst_agent_test"), "{text}");
}

#[tokio::test]
async fn two_agents_never_share_a_state_directory() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (listener, url) = listen().await;
    let _first = Process::start(&url, folder.path(), &[]);
    let (_head, _stream) = accept(&listener).await;
    let (code, text) = Process::start(&url, folder.path(), &[]).ended().await;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("another agent uses the state directory"), "{text}");
}

/// Reads the body of a posted exchange.
pub async fn read_request(stream: &mut BufReader<TcpStream>, head: &str) -> ExchangeRequest {
    let length: usize = head
        .lines()
        .find_map(|line| {
            line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok()
        })
        .expect("a length");
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.expect("a body");
    ExchangeRequest::decode(&body).expect("an exchange")
}

/// Answers an exchange and closes the connection.
pub async fn write_response(
    stream: &mut BufReader<TcpStream>,
    sequence: u64,
    parts: Vec<ExchangePart>,
) {
    let answer = ExchangeResponse { sequence, parts }.encode();
    let head =
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", answer.len());
    stream.write_all(head.as_bytes()).await.expect("written");
    stream.write_all(&answer).await.expect("written");
    let _ = stream.shutdown().await;
}

/// Answers one exchange with these parts.
async fn answer(
    stream: &mut BufReader<TcpStream>,
    head: &str,
    parts: Vec<ExchangePart>,
) -> ExchangeRequest {
    let request = read_request(stream, head).await;
    write_response(stream, request.sequence, parts).await;
    request
}

#[tokio::test]
async fn http_replaces_failing_websockets_until_a_websocket_works_again() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (listener, url) = listen().await;
    let _agent = Process::start(&url, folder.path(), &[("MUSTER_WS_RETRY_MS", "300")]);
    let mut refused = 0;
    let mut frames = Vec::new();
    let mut sequences = Vec::new();
    let mut held = Vec::new();
    let is_registered = |frames: &[AgentFrame]| frames.contains(&AgentFrame::InventoryEnd);
    // Every WebSocket fails until the session uses HTTP. A refusal would be taken at once.
    let mut socket = loop {
        let (head, mut stream) = accept(&listener).await;
        if head.starts_with("GET /ws/agent") {
            if is_registered(&frames) {
                break upgrade(&head, stream).await;
            }
            refused += 1;
            let text = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let _ = stream.write_all(text).await;
            continue;
        }
        assert!(head.starts_with("POST /api/agents/exchange"), "{head}");
        let parts = match (sequences.len(), frames.len()) {
            (0, _) => vec![ExchangePart::Text(connected())],
            (_, 1) => vec![ExchangePart::Text(registered(1))],
            _ => vec![],
        };
        if parts.is_empty() && is_registered(&frames) {
            // Held, as a server does that has nothing to say.
            held.push(stream);
            continue;
        }
        let request = answer(&mut stream, &head, parts).await;
        sequences.push(request.sequence);
        for part in request.parts {
            if let ExchangePart::Text(text) = part {
                frames.push(decode_agent_frame(&text).expect("a frame"));
            }
        }
    };
    assert!(refused >= 3, "{refused}");
    assert_eq!(sequences[0], 0);
    assert!(matches!(frames[0], AgentFrame::Register { .. }), "{frames:?}");
    socket.send(Message::text(connected())).await.expect("sent");
    let AgentFrame::Register { data } = next_text(&mut socket).await else { panic!("register") };
    assert_eq!(data.highest_epoch, Some(1));
    socket.send(Message::text(registered(2))).await.expect("sent");
    assert!(matches!(next_text(&mut socket).await, AgentFrame::Manifest { .. }));
}

#[tokio::test]
async fn a_key_that_a_server_issued_and_another_does_not_know_falls_back_to_the_configured_key() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (listener, url) = listen().await;
    let _agent = Process::start(&url, folder.path(), &[]);
    let presented = |head: &str| {
        let head = head.to_lowercase();
        let key = head.split("authorization: bearer ").nth(1).expect("a key");
        key.lines().next().unwrap_or_default().to_owned()
    };
    let (head, stream) = accept(&listener).await;
    let mut socket = upgrade(&head, stream).await;
    socket.send(Message::text(connected())).await.expect("sent");
    next_text(&mut socket).await;
    socket.send(Message::text(registered(1))).await.expect("sent");
    let rekey = ServerFrame::Rekey { key: "mst_agent_hostile".into(), grace_ms: 0 };
    let rekey = serde_json::to_string(&rekey).expect("plain data");
    socket.send(Message::text(rekey)).await.expect("sent");
    let restart = CloseFrame { code: 1012.into(), reason: "restart".into() };
    socket.close(Some(restart)).await.expect("closed");
    while let Some(Ok(_)) = socket.next().await {}

    // The rightful server knows only the configured key.
    let mut tried = Vec::new();
    let mut socket = loop {
        let (head, stream) = accept(&listener).await;
        let mut socket = upgrade(&head, stream).await;
        tried.push(presented(&head));
        if tried.last().is_some_and(|key| key == "mst_agent_test") {
            break socket;
        }
        let close = CloseFrame { code: 4002.into(), reason: "key_unknown".into() };
        socket.close(Some(close)).await.expect("closed");
        while let Some(Ok(_)) = socket.next().await {}
    };
    assert_eq!(tried, ["mst_agent_hostile", "mst_agent_test"]);
    assert!(folder.path().join("key.json").exists(), "no server has accepted the configured key");
    socket.send(Message::text(connected())).await.expect("sent");
    next_text(&mut socket).await;
    socket.send(Message::text(registered(2))).await.expect("sent");
    assert!(matches!(next_text(&mut socket).await, AgentFrame::Manifest { .. }));
    assert!(!folder.path().join("key.json").exists(), "the issued key is forgotten");
}
